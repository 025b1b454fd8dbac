"""The skills that the settings add to the shipped ones."""

from __future__ import annotations

from cli.home import Home
from cli.settings import load


def use_plugins(home: Home) -> Home:
    """Have the plugins of `home`'s settings from now on, in this process; returns `home`.

    Raises PluginError naming the first that cannot be used: nothing starts with some of them missing.
    """
    settings = load(home.config)
    from agents import discovery

    if settings.skill_folders or settings.skill_packages:
        from agents.plugins import find

        discovery.use(find([home.path / folder for folder in settings.skill_folders], settings.skill_packages))
    else:
        discovery.use(())
    return home
