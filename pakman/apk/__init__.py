"""The package and index formats of apk v2: read, write, sign, verify."""
