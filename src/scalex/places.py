"""Where a store lies: a folder of this machine, or a bucket of an object store (s3://, gs://, az://).

A folder is written to with care for losses of power and for others at work in it. A bucket needs none of that: an
object is there whole or not at all, and is durable once it is acknowledged.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from scalex.disk import disk_errors, local_folder, remove_abandoned, size_of, sync, write_atomic
from scalex.errors import ScalexError

__all__ = ["ANOTHER", "Bucket", "Folder", "Place", "is_remote", "place_of"]

ANOTHER = "Name another folder with --store"

_SCHEMES = {"s3": "S3Store", "gs": "GCSStore", "az": "AzureStore"}
_CREDENTIALS = {
    "s3": "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_ENDPOINT_URL",
    "gs": "GOOGLE_SERVICE_ACCOUNT",
    "az": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
}
_ENDPOINTS = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT", "AZURE_STORAGE_ENDPOINT", "GOOGLE_BASE_URL")

# A server that is away for a moment is waited for; one that does not answer when a store is opened is said at once.
_LATENTS = {"connect_timeout": "3s", "timeout": "60s", "client_max_retries": "4", "client_retry_timeout": "30"}
_SHEETS = {"connect_timeout": "3s", "timeout": "4s"}
_RETRYING = {"max_retries": 1, "retry_timeout": timedelta(seconds=8)}

# What servers and clients say, in Lance's errors and in obstore's, and what that means; the first that fits.
_TROUBLES = [
    (
        r"nosuchbucket|bucket does not exist|bucket not found|containernotfound",
        ("there is no bucket {bucket}", "Make it, or name another with --store"),
    ),
    (
        r"insufficientstorage|quotaexceeded|status code: 507",
        ("{place} is full{kept}", "Free space and run the same command again"),
    ),
    (
        r"accessdenied|invalidaccesskeyid|signaturedoesnotmatch|authorization|unauthori[sz]ed|permission|forbidden"
        r"|status code: 40[13]|invalid ?token|expiredtoken",
        ("{place} refuses access{kept}", "Check {credentials} and what they allow"),
    ),
    (
        r"credential|169\.254\.169\.254|metadata",
        ("no credentials were found for {place}", "Set {credentials}"),
    ),
    (
        r"error sending request|http error|connection|timed? ?out|dns error|status code: 50[0234]|slowdown",
        ("{place} does not answer{kept}", "Check the network and {credentials}"),
    ),
]


@runtime_checkable
class Place(Protocol):
    """Where a store lies. Names are those of files and folders in it."""

    @property
    def address(self) -> str:
        """What `place_of` takes."""

    @property
    def options(self) -> Mapping[str, str]:
        """What Lance needs to reach it."""

    def exists(self) -> bool:
        """Whether anything is there."""

    def found(self) -> None:
        """Makes it ready to be written to.

        Raises:
            ScalexError: it cannot be.
        """

    def names(self) -> list[str]:
        """Of all files and folders at the top."""

    def read(self, name: str) -> str | None:
        """The text of a file; None where there is none."""

    def write(self, name: str, content: str) -> None:
        """Writes a whole file or nothing; it is durable when this returns."""

    def size(self, name: str) -> int:
        """Bytes in all files under a folder."""

    def sweep(self, age: timedelta) -> tuple[int, int]:
        """Removes half-written files that nobody has touched for so long; gives their number and bytes."""

    def writing(self, kept: Callable[[], int] | None = None) -> AbstractContextManager[None]:
        """Turns what can go wrong into one clear line; `kept` counts what is safely stored."""

    def reading(self) -> AbstractContextManager[None]:
        """As `writing`, where nothing is written."""


@dataclass(frozen=True)
class Folder:
    """A folder of this machine."""

    path: Path

    @property
    def address(self) -> str:
        """The path."""
        return str(self.path)

    @property
    def options(self) -> Mapping[str, str]:
        """None: it is simply there."""
        return {}

    def exists(self) -> bool:
        """As `Place.exists`."""
        return self.path.is_dir()

    def found(self) -> None:
        """As `Place.found`."""
        new = not self.path.exists()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except FileNotFoundError as error:  # as in a folder that the system keeps for itself
            raise ScalexError(f"the folder {self.path} cannot be made", ANOTHER) from error
        if not os.access(self.path, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        if new:
            sync([self.path.parent])

    def names(self) -> list[str]:
        """As `Place.names`."""
        return [path.name for path in self.path.iterdir()]

    def read(self, name: str) -> str | None:
        """As `Place.read`."""
        try:
            return (self.path / name).read_text(encoding="utf-8")
        except (FileNotFoundError, NotADirectoryError):
            return None

    def write(self, name: str, content: str) -> None:
        """As `Place.write`."""
        write_atomic(self.path / name, content)

    def size(self, name: str) -> int:
        """As `Place.size`."""
        return size_of(self.path / name)

    def sweep(self, age: timedelta) -> tuple[int, int]:
        """As `Place.sweep`."""
        return remove_abandoned(self.path, age)

    def writing(self, kept: Callable[[], int] | None = None) -> AbstractContextManager[None]:
        """As `Place.writing`."""
        return disk_errors(self.path, kept)

    def reading(self) -> AbstractContextManager[None]:
        """As `Place.reading`."""
        return nullcontext()


@dataclass(frozen=True)
class Bucket:
    """Objects of a bucket whose names begin alike. Credentials and endpoint are those of the environment."""

    address: str

    @property
    def options(self) -> Mapping[str, str]:
        """As `Place.options`, of Lance's S3, Google and Azure clients alike."""
        return _LATENTS | _plain()

    @cached_property
    def objects(self) -> Any:
        """The bucket as `obstore` reaches it, by the same library as Lance.

        Raises:
            ScalexError: it is not installed, or the address has no bucket.
        """
        scheme, _, rest = self.address.partition("://")
        bucket, _, prefix = rest.partition("/")
        if not bucket:
            raise ScalexError(f"{self.address} names no bucket", f"Write it as {scheme}://BUCKET/FOLDER")
        kind = getattr(_obstore().store, _SCHEMES[scheme])
        with self.reading():
            return kind(
                bucket,
                prefix=prefix.strip("/") or None,
                client_options=_SHEETS | _plain(),
                retry_config=_RETRYING,
            )

    def exists(self) -> bool:
        """As `Place.exists`."""
        with self.reading():
            return bool(self.names())

    def found(self) -> None:
        """As `Place.found`: a bucket is made by its owner, and what is under it needs no folders."""

    def names(self) -> list[str]:
        """As `Place.names`."""
        found = _obstore().list_with_delimiter(self.objects)
        return [*found["common_prefixes"], *(file["path"] for file in found["objects"])]

    def read(self, name: str) -> str | None:
        """As `Place.read`."""
        try:
            return bytes(_obstore().get(self.objects, name).bytes()).decode()
        except FileNotFoundError as error:
            if re.search(_TROUBLES[0][0], str(error).casefold()):
                raise
            return None

    def write(self, name: str, content: str) -> None:
        """As `Place.write`."""
        _obstore().put(self.objects, name, content.encode())

    def files(self, under: str) -> Iterator[Mapping[str, Any]]:
        """`path`, `size` and `last_modified` of all objects under a folder."""
        for some in _obstore().list(self.objects, prefix=under):
            yield from some

    def size(self, name: str) -> int:
        """As `Place.size`."""
        return sum(int(file["size"]) for file in self.files(name))

    def sweep(self, age: timedelta) -> tuple[int, int]:
        """As `Place.sweep`: nothing is ever half-written."""
        return 0, 0

    @contextmanager
    def writing(self, kept: Callable[[], int] | None = None) -> Iterator[None]:
        """As `Place.writing`."""
        try:
            yield
        except Exception as error:
            explained = self._explain(error, kept)
            if explained is None:
                raise
            raise explained from error

    def reading(self) -> AbstractContextManager[None]:
        """As `Place.reading`."""
        return self.writing()

    def _explain(self, error: Exception, kept: Callable[[], int] | None) -> ScalexError | None:
        """One line for what a server or the network said; None for all else."""
        said = f"{type(error)} {error}".casefold()
        for named in self.address.partition("://")[2].split("/", 1):  # what the user calls things says nothing
            said = said.replace(f"/{named.casefold()}/", "/")
        if isinstance(error, ScalexError) or not re.search("lance|obstore|error performing", said):
            return None
        found = next((told for pattern, told in _TROUBLES if re.search(pattern, said)), None)
        return found and ScalexError(*(text.format(**self._terms(kept)) for text in found))

    def _terms(self, kept: Callable[[], int] | None) -> dict[str, str]:
        scheme, _, rest = self.address.partition("://")
        return {
            "place": self.address,
            "bucket": f"{scheme}://{rest.partition('/')[0]}",
            "credentials": _CREDENTIALS[scheme],
            "kept": ": what was written before is kept" if kept else "",
        }


def _plain() -> dict[str, str]:
    """Allows plain HTTP where the endpoint that the user names is one."""
    plain = any(os.environ.get(name, "").startswith("http://") for name in _ENDPOINTS)
    return {"allow_http": "true"} if plain else {}


def is_remote(address: str | Path) -> bool:
    """Whether an address is that of an object store."""
    return str(address).partition("://")[0] in _SCHEMES and "://" in str(address)


def place_of(address: str | Path) -> Place:
    """The place that an address names: the path of a folder, or SCHEME://BUCKET/FOLDER.

    Raises:
        ScalexError: it is neither.
    """
    if not is_remote(address):
        return Folder(local_folder(address))
    scheme, _, rest = str(address).partition("://")
    return Bucket(f"{scheme}://{rest.strip('/')}")


def _obstore() -> Any:
    try:
        import obstore
        import obstore.store
    except ModuleNotFoundError:
        raise ScalexError("a store in an object store needs obstore", "Run: pip install 'obstore>=0.9'") from None
    return obstore
