"""Nothing to configure here: the plugin is installed as an entry point. Only `pytester` has to be asked for."""

pytest_plugins = ["pytester"]
