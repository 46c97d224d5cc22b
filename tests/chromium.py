"""A headless Chromium that the page's tests drive: one for the whole session, asked for nothing but files."""

import shutil
from pathlib import Path

CHROMIUM, DRIVER = (shutil.which(name) for name in ("chromium", "chromedriver"))
WHY_NOT = "Chromium and its driver are not installed (apt-get install chromium chromium-driver)"
SWITCHES = (
    "headless=new no-sandbox disable-gpu disable-quic no-first-run disable-background-networking "
    "disable-component-update disable-sync hide-scrollbars"
).split()


def started(profile):
    """A browser with an empty profile that logs what pages say and what they ask for."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for switch in (*SWITCHES, f"user-data-dir={profile}"):
        options.add_argument(f"--{switch}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = webdriver.Chrome(options=options, service=Service(DRIVER))
    browser.set_script_timeout(20)
    return browser


def resized(browser, width, height=900, theme="light"):
    """A window of this size in CSS pixels, whatever the window system allows, that prefers a theme."""
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False},
    )
    media = [{"name": "prefers-color-scheme", "value": theme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": media})


def opened(browser, path: Path, state=""):
    """The page, read anew, when its script has run."""
    browser.get("about:blank")
    browser.get(f"{path.as_uri()}#{state}")
    waited(browser, "document.readyState === 'complete'")


def waited(browser, condition):
    """Until an expression of the page's holds. Raises TimeoutException where that takes over ten seconds."""
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(browser, 10, 0.05).until(lambda one: one.execute_script(f"return {condition}"))


def press(browser, *keys):
    """Type, wherever the focus is."""
    from selenium.webdriver.common.action_chains import ActionChains

    ActionChains(browser).send_keys(*keys).perform()


def shown_rows(browser):
    """How many rows of the table are shown."""
    rows = "[...document.querySelectorAll('#table tbody tr')]"
    return browser.execute_script(f"return {rows}.filter(row => !row.hidden).length")
