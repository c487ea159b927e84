"""Writes a MaxMind database of a few networks, as the operators' own have millions: mmdb.write(path, {"192.0.2.0/24": "NZ"})."""
import ipaddress
import struct


def _control(kind, size):
    return bytes([kind << 5 | size]) if kind <= 7 else bytes([size, kind - 7])


def _value(v):
    if isinstance(v, str):
        data = v.encode()
        return _control(2, len(data)) + data
    if isinstance(v, dict):
        return _control(7, len(v)) + b"".join(_value(k) + _value(x) for k, x in v.items())
    if isinstance(v, list):
        return _control(11, len(v)) + b"".join(_value(x) for x in v)
    kind, n = v
    data = n.to_bytes(8, "big").lstrip(b"\0")
    return _control({"uint16": 5, "uint32": 6, "uint64": 9}[kind], len(data)) + data


def write(path, networks):
    """IPv4 only."""
    nodes, data = [[None, None]], b""
    for network, country in networks.items():
        net = ipaddress.ip_network(network)
        at, bits = 0, [int(b) for b in f"{int(net.network_address):032b}"[:net.prefixlen]]
        for bit in bits[:-1]:
            if nodes[at][bit] is None:
                nodes.append([None, None])
                nodes[at][bit] = ("node", len(nodes) - 1)
            at = nodes[at][bit][1]
        nodes[at][bits[-1]] = ("data", len(data))
        data += _value({"country": {"iso_code": country}})
    count = len(nodes)
    record = lambda r: count if r is None else r[1] if r[0] == "node" else count + 16 + r[1]  # noqa: E731
    tree = b"".join(struct.pack(">I", record(r))[1:] for node in nodes for r in node)
    about = {"node_count": ("uint32", count), "record_size": ("uint16", 24), "ip_version": ("uint16", 4), "database_type": "Country", "languages": ["en"],
             "binary_format_major_version": ("uint16", 2), "binary_format_minor_version": ("uint16", 0), "build_epoch": ("uint64", 1), "description": {"en": "A test"}}
    with open(path, "wb") as f:
        f.write(tree + b"\0" * 16 + data + b"\xab\xcd\xefMaxMind.com" + _value(about))
