# Varnish in compose/compose.yaml: its origin is the container of that name.
vcl 4.1;

backend default {
    .host = "origin";
    .port = "80";
}

include "./keelson.vcl";
