"""Packaging of leaf_audio; tool settings live in pyproject.toml."""

import pathlib
import re

import setuptools

HERE = pathlib.Path(__file__).parent


def version() -> str:
    text = (HERE / "leaf_audio" / "version.py").read_text(encoding="utf-8")
    return re.search(r'^__version__ = "(.+)"$', text, re.MULTILINE).group(1)


setuptools.setup(
    name="leaf_audio",
    version=version(),
    description="Learnable audio frontends for Keras: LEAF, SincNet and mel.",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=setuptools.find_packages(include=["leaf_audio*", "example*"]),
    # Said, it makes an editable install a path rather than an import hook, and
    # a path is found ahead of a clone's folder beside a notebook, which may
    # have the package's name.
    package_dir={"": "."},
    package_data={"example.configs": ["*.gin"]},
    install_requires=[
        "absl-py",
        "gin-config>=0.5",
        # tensorflow-datasets imports it without asking for it.
        "importlib_resources",
        "keras>=3.12",
        "numpy",
        # tensorflow-datasets decodes speech_commands with it, and asks for it
        # after the download only.
        "pydub",
        "audioop-lts; python_version >= '3.13'",
        "rich",
        "soundfile>=0.12",
        "soxr",
        "tensorboard",
        "tensorflow>=2.19",
        "tensorflow-datasets>=4.9.8",
    ],
    extras_require={
        "test": ["librosa", "matplotlib", "pytest", "pytest-xdist", "scipy"],
        "plot": ["matplotlib"],
        "lingvo": ["lingvo>=0.14"],
        "jax": ["jax"],
        "torch": ["torch"],
        "cuda": ["tensorflow[and-cuda]"],
    },
)
