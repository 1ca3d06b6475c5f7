"""Packaging: every fact comes from settings.ini, the one source of metadata."""

from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
parser = ConfigParser(delimiters=["="], interpolation=None)
parser.read(HERE / "settings.ini", encoding="utf-8")
settings = parser["DEFAULT"]

extras = {key.removesuffix("_requirements"): settings[key].split() for key in settings if key.endswith("_requirements")}
# The peers of the learning benchmarks pin each other's versions: they get an environment of their own, and "all" leaves them out.
extras["all"] = sorted({requirement for name, group in extras.items() if name != "peers" for requirement in group})

setup(
    name=settings["lib_name"],
    version=settings["version"],
    description=settings["description"],
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author=settings["author"],
    author_email=settings["author_email"],
    license=settings["license_name"],
    keywords=settings["keywords"].split(),
    python_requires=f">={settings['min_python']}",
    packages=find_packages(include=["lightbulb", "lightbulb.*"]),
    include_package_data=True,
    install_requires=settings["requirements"].split(),
    extras_require=extras,
    entry_points={"console_scripts": settings["console_scripts"].split()},
    zip_safe=False,
)
