# The shortest VCL that does what Keelson needs: an origin, and keelson.vcl.
#
#   varnishd -a :6081 -f "$PWD/compose/varnish/default.vcl"
vcl 4.1;

# Where the content comes from: what `[cdn] origin` in keelson.toml says.
backend default {
    .host = "127.0.0.1";
    .port = "8000";
}

# Before any rules of one's own, so that Keelson's requests never get to them.
include "./keelson.vcl";
