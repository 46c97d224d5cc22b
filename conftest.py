"""The plugin is installed as an entry point. Asked for here: its options by their short names, and `pytester`."""

pytest_plugins = ["pytester", "pytest_quantbench.plugin.short_options"]
