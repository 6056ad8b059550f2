"""Packaging of leaf_audio. The settings of tools are in pyproject.toml."""

import pathlib
import re
import shutil

import setuptools
from setuptools.command.build_py import build_py

HERE = pathlib.Path(__file__).parent


def version() -> str:
    text = (HERE / "leaf_audio" / "version.py").read_text(encoding="utf-8")
    return re.search(r'^__version__ = "(.+)"$', text, re.MULTILINE).group(1)


class BuildWithConfigs(build_py):
    """Copies `example/configs` into the package, as its `configs`.

    An editable install skips this: there the configs of the clone are read.
    """

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        configs = HERE / "example" / "configs"
        target = pathlib.Path(self.build_lib) / "leaf_audio" / "configs"
        for file in configs.rglob("*.gin"):
            copy = target / file.relative_to(configs)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)


setuptools.setup(
    name="leaf_audio",
    version=version(),
    description="Learnable audio frontends for Keras: LEAF, SincNet and mel.",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=setuptools.find_packages(include=["leaf_audio*"]),
    # With this line, an editable install adds the clone to Python's path, and
    # without it, setuptools may install an import hook. A path is preferred: it
    # is found before a folder that lies beside a notebook and has the name of
    # the package, such as that of a clone.
    package_dir={"": "."},
    package_data={
        "leaf_audio": ["py.typed", "pretrained/*", "serving/report/*.jinja"]
    },
    cmdclass={"build_py": BuildWithConfigs},
    entry_points={"console_scripts": ["leaf-audio = leaf_audio.app.cli:run"]},
    install_requires=[
        "absl-py",
        # It has no version for Windows, where only training needs it.
        "array_record>=0.8; sys_platform != 'win32'",
        "filelock",
        "gin-config>=0.5",
        "grain>=0.2.12",
        "h5py",
        # tensorflow-datasets imports it, but does not require it.
        "importlib_resources",
        "keras>=3.12",
        "numpy",
        "protobuf",
        # tensorflow-datasets decodes speech_commands with it, and reports that
        # it is missing only after the download.
        "pydub",
        "audioop-lts; python_version >= '3.13'",
        "rich",
        "scikit-learn",
        "scipy",
        "soundfile>=0.12",
        "soxr",
        "tensorboard",
        "tensorflow>=2.19",
        "tensorflow-datasets>=4.9.8",
        "threadpoolctl",
    ],
    extras_require={
        "test": [
            "audiomentations>=0.40",
            "jinja2",
            "librosa",
            "matplotlib",
            "onnxruntime",
            "pytest",
            "pytest-cov",
            "pytest-xdist",
            "tf2onnx>=1.17",
        ],
        "augment": ["audiomentations>=0.40"],
        "plot": ["jinja2", "matplotlib"],
        # The site. mkdocs-jupyter runs the notebook, in a kernel of ipykernel.
        "docs": [
            "ipykernel",
            "mkdocs-jupyter>=0.25",
            "mkdocs-material>=9.5",
            "mkdocstrings[python]>=1",
        ],
        "lingvo": ["lingvo>=0.14"],
        "onnx": ["tf2onnx>=1.17"],
        "jax": ["jax"],
        "torch": ["torch"],
        "cuda": ["tensorflow[and-cuda]"],
    },
)
