"""Tokens that were never issued, altered ones, and texts that are no token."""

import base64
import secrets


def flip_bit(token, bit):
    """The token with one bit of its 45 bytes changed."""
    raw = bytearray(base64.urlsafe_b64decode(token[3:]))
    raw[bit // 8] ^= 1 << bit % 8
    return token[:3] + base64.urlsafe_b64encode(raw).decode()


def never_issued(prefix="sa_"):
    return prefix + base64.urlsafe_b64encode(bytes([1]) + secrets.token_bytes(44)).decode()


MALFORMED = ["x", "sa_", "sa_" + "A" * 59, "sa_" + "A" * 61, "sk_" + "A" * 60, "sb_" + "A" * 60,
             "sa_" + "A" * 59 + "!", "sa_" + "A" * 59 + "+", "SA_" + "A" * 60, "sa_" + "A" * 4000]
