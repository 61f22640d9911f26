"""What an installed wheel must do on a machine that has Python and nothing else: decode, load, report.

In: README.md's path and an empty folder to work in. Out: exit status 0, or the first thing that failed. Run with the Python it is installed
in. `vidload preview` is left out: it draws with matplotlib, an extra.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import vidload
from vidload.system import selftest


def command(*arguments: str) -> str:
    """The standard output of `vidload ARGUMENTS`, which must succeed."""
    program = Path(sys.executable).with_name("vidload")
    result = subprocess.run([program, *arguments], capture_output=True, text=True)
    assert result.returncode == 0, f"vidload {' '.join(arguments)}: {result.stdout}{result.stderr}"
    return result.stdout


def main(readme: Path, folder: Path) -> None:
    assert Path(vidload.__file__).is_relative_to(sys.prefix), vidload.__file__
    facts = vidload.info()
    assert facts["build"]["is_bundled"]
    assert all(facts["ffmpeg"]["decoders"].values()), facts["ffmpeg"]["decoders"]
    licenses = {path.name for path in (Path(vidload.__file__).parent / "licenses").iterdir()}
    assert {"ffmpeg-LGPL-2.1.txt", "dav1d.txt", "libjpeg-turbo.md", "zlib.txt", "SOURCES.txt"} <= licenses, licenses

    (folder / "videos").mkdir(parents=True)
    for index, name in enumerate(selftest.CLIPS):
        selftest.encode_clip(name, folder / "videos" / f"{index}.mkv", 320, 240)
    names = sorted(path.name for path in (folder / "videos").iterdir())
    (folder / "train.txt").write_text("".join(f"{name} {index}\n" for index, name in enumerate(names * 2)))
    os.chdir(folder)
    exec(compile(readme.read_text().split("```python\n", 1)[1].split("```", 1)[0], str(readme), "exec"), {})

    print(command("info"))
    assert "of" in command("index", "train.txt", "--root", "videos", "-o", "train.arrow")
    assert "frames" in command("inspect", "videos/0.mkv")
    command("frames", "videos", "frames")
    command("prepare", "train.txt", "prepared", "--root", "videos")
    print(command("selftest"))


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve())
