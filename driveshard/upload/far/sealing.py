"""Seals what only one worker may read: a session's address and a login's token pass a scheduler and its logs, and most
clusters talk without TLS.

Each worker has a key pair of its own as long as it lives (X25519); who seals makes another for each seal. That keeps
the secret from everybody who only listens or reads logs. It does not tell a worker from somebody who takes its place:
for that a cluster needs TLS.
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from functools import cache
from typing import Any

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

_NONCE = bytes(12)  # a key seals once


@dataclass(frozen=True)
class Sealed:
    """``by`` is the public key that was made for this seal."""

    by: bytes
    content: bytes

    def __repr__(self) -> str:
        return "Sealed()"


def seal(content: Any, public_key: bytes) -> Sealed:
    """For the owner of ``public_key`` alone."""
    own = X25519PrivateKey.generate()
    by = own.public_key().public_bytes_raw()
    shared = own.exchange(X25519PublicKey.from_public_bytes(public_key))
    return Sealed(by, _cipher(shared, by).encrypt(_NONCE, pickle.dumps(content), None))


def unseal(sealed: Sealed) -> Any:
    """What was sealed with this process's ``public_key``. Raises InvalidTag for anything else."""
    shared = _own_key().exchange(X25519PublicKey.from_public_bytes(sealed.by))
    return pickle.loads(_cipher(shared, sealed.by).decrypt(_NONCE, sealed.content, None))  # noqa: S301 - as dask does


def public_key() -> bytes:
    """This process's."""
    return _own_key().public_key().public_bytes_raw()


@cache
def _own_key() -> X25519PrivateKey:
    return X25519PrivateKey.generate()


def _cipher(shared: bytes, by: bytes) -> ChaCha20Poly1305:
    return ChaCha20Poly1305(HKDF(SHA256(), 32, None, b"driveshard" + by).derive(shared))
