"""Writes a MaxMind DB file (format 2.0) with the places of a few networks."""

import ipaddress


def control(kind, size):
    """The byte or bytes before a value: its type and how long it is."""
    extra = b""
    if size >= 29:
        assert size < 29 + 256
        size, extra = 29, bytes([size - 29])
    if kind > 7:
        return bytes([size, kind - 7]) + extra
    return bytes([kind << 5 | size]) + extra


def encode(value):
    if isinstance(value, str):
        raw = value.encode()
        return control(2, len(raw)) + raw
    if isinstance(value, int):
        raw = value.to_bytes((value.bit_length() + 7) // 8, "big")
        return control(9, len(raw)) + raw
    if isinstance(value, dict):
        return control(7, len(value)) + b"".join(encode(k) + encode(v) for k, v in value.items())
    return control(11, len(value)) + b"".join(encode(item) for item in value)


def sized(value, kind, length):
    """An integer of the type that the metadata wants."""
    raw = value.to_bytes(length, "big").lstrip(b"\0")
    return control(kind, len(raw)) + raw


def metadata(node_count):
    members = {
        "node_count": sized(node_count, 6, 4), "record_size": sized(32, 5, 2),
        "ip_version": sized(6, 5, 2), "binary_format_major_version": sized(2, 5, 2),
        "binary_format_minor_version": sized(0, 5, 2), "build_epoch": sized(1, 9, 8),
        "database_type": encode("Test-City"), "languages": encode(["en"]),
        "description": encode({"en": "test"}),
    }
    return control(7, len(members)) + b"".join(encode(k) + v for k, v in members.items())


def bits_of(network):
    network = ipaddress.ip_network(network)
    whole = int(network.network_address)
    prefix = network.prefixlen + (96 if network.version == 4 else 0)
    return [whole >> (127 - i) & 1 for i in range(prefix)]


def place(code, country, part=None, part_name=None, city=None):
    """The database's entry for a network."""
    result = {"country": {"iso_code": code, "names": {"en": country}}}
    if part:
        result["subdivisions"] = [{"iso_code": part, "names": {"en": part_name}}]
    if city:
        result["city"] = {"names": {"en": city}}
    return result


def write(path, places):
    """`places` maps networks, of which none lies in another, to their places."""
    nodes, data = [[None, None]], b""
    for network, entry in places.items():
        at, bits = 0, bits_of(network)
        for bit in bits[:-1]:
            if nodes[at][bit] is None:
                nodes.append([None, None])
                nodes[at][bit] = ("node", len(nodes) - 1)
            at = nodes[at][bit][1]
        nodes[at][bits[-1]] = ("data", len(data))
        data += encode(entry)

    def number(record):
        if record is None:
            return len(nodes)
        kind, value = record
        return value if kind == "node" else len(nodes) + 16 + value

    tree = b"".join(number(record).to_bytes(4, "big") for node in nodes for record in node)
    path.write_bytes(tree + bytes(16) + data + b"\xab\xcd\xefMaxMind.com" + metadata(len(nodes)))
