# What Varnish does for Keelson: purges by URL, by tag and by prefix, hard or soft; says whether an answer was a hit; says that it is alive.
# Varnish 7.1 or newer, with varnish-modules for vmod xkey.
#
# Include it in your own VCL before your own rules: Varnish runs the parts of a subroutine in the order in which it reads them.
#
#   request                                              what goes
#   PURGE /videos/42                                     the URL, in all variants
#   PURGE /videos/42   Keelson-Soft: 1                   the same, softly: it is served as stale while it is fetched anew
#   PURGE /videos/42   Keelson-Also: HOST/a HOST/b       and up to four more URLs, as softly
#   PURGE /            xkey-purge: video:42 user:7       what has one of the tags
#   PURGE /            xkey-softpurge: video:42 user:7   the same, softly
#   BAN /              Keelson-Ban: ^/videos/            what has a URL like this; there is no soft form of it
#
# All are about the host that they name. Each is answered 200 when it is done, 400 or 403 when it is not. `Keelson-Urls` in the answer says how many URLs
# were purged.
vcl 4.1;

# ban() that says what is wrong, and lower case.
import std;
# Soft purges of URLs.
import purge;
# Tags: objects are found by any of the words in their header `xkey`.
import xkey;

# Who may purge. Whoever can reach Varnish from one of these is believed: make the list as short as the machine allows.
acl keelson {
    "localhost";
    "127.0.0.0"/8;
    "::1";
    "10.0.0.0"/8;
    "172.16.0.0"/12;
    "192.168.0.0"/16;
    "fd00::"/8;
}

sub vcl_recv {
    # One name for one host, whatever the reader wrote: objects are found by it.
    set req.http.host = regsub(std.tolower(req.http.host), ":(80|443)$", "");

    # Whether Varnish itself is alive. It asks no origin, so that a dead origin is not taken for a dead edge.
    if (req.url == "/.keelson/health") {
        return (synth(200, "Alive"));
    }

    # Nobody but us says this.
    unset req.http.Keelson-Purged;

    if (req.method == "PURGE" || req.method == "BAN") {
        # Varnish adds the client to X-Forwarded-For before this runs. If there is more in it, the request came through a proxy, and the address is
        # the proxy's: its clients must not get what it may.
        if (client.ip !~ keelson || req.http.X-Forwarded-For != "" + client.ip) {
            return (synth(403, "Not allowed to purge"));
        }
        if (req.method == "BAN") {
            call keelson_ban;
        }
        # Tags. The number of objects is said for those who look.
        if (req.http.xkey-purge) {
            set req.http.Keelson-Purged = xkey.purge(req.http.xkey-purge);
            return (synth(200, "Purged " + req.http.Keelson-Purged));
        }
        if (req.http.xkey-softpurge) {
            set req.http.Keelson-Purged = xkey.softpurge(req.http.xkey-softpurge);
            return (synth(200, "Purged " + req.http.Keelson-Purged));
        }
        # A soft purge is had while looking the object up. It must not wait for a fetch that is under way, as readers do.
        if (req.http.Keelson-Soft) {
            set req.hash_ignore_busy = true;
            return (hash);
        }
        # All variants of the URL, at once.
        return (purge);
    }
}

sub keelson_ban {
    if (!req.http.Keelson-Ban) {
        return (synth(400, "BAN needs the header Keelson-Ban"));
    }
    # Only fields of the object are named, so that Varnish can clear up in the background instead of at the next reader.
    if (std.ban("obj.http.x-host == " + req.http.host + " && obj.http.x-url ~ " + req.http.Keelson-Ban)) {
        return (synth(200, "Banned"));
    }
    return (synth(400, std.ban_error()));
}

# Goes on with the next of several URLs: a request costs far more than what it purges. Varnish allows four restarts (its parameter max_restarts), and
# answers 503 to more.
sub keelson_also {
    if (req.http.Keelson-Also) {
        set req.http.host = regsub(req.http.Keelson-Also, "/.*", "");
        set req.url = regsub(req.http.Keelson-Also, "^[^/]*(/[^ ]*).*", "\1");
        set req.http.Keelson-Also = regsub(req.http.Keelson-Also, "^[^ ]* ?", "");
        if (req.http.Keelson-Also == "") {
            unset req.http.Keelson-Also;
        }
        return (restart);
    }
}

sub vcl_purge {
    call keelson_also;
}

# Only soft purges get here with PURGE; a fresh or stale object was found.
sub vcl_hit {
    if (req.method == "PURGE") {
        set req.http.Keelson-Purged = purge.soft();
        call keelson_also;
        return (synth(200, "Purged " + req.http.Keelson-Purged));
    }
}

# None that may be served was found; others may be there.
sub vcl_miss {
    if (req.method == "PURGE") {
        set req.http.Keelson-Purged = purge.soft();
        call keelson_also;
        return (synth(200, "Purged " + req.http.Keelson-Purged));
    }
}

# The URL is known to be one that is not kept.
sub vcl_pass {
    if (req.method == "PURGE") {
        call keelson_also;
        return (synth(200, "Purged 0"));
    }
}

# Answers to us: without a page in them, and marked, so that we can tell them from what an origin says to a PURGE that was passed on to it.
sub vcl_synth {
    if (req.method == "PURGE" || req.method == "BAN" || req.url == "/.keelson/health") {
        set resp.http.Keelson = "1";
        set resp.http.Keelson-Urls = req.restarts + 1;
        set resp.body = resp.reason;
        return (deliver);
    }
}

sub vcl_backend_response {
    # What BAN looks at.
    set beresp.http.x-url = bereq.url;
    set beresp.http.x-host = bereq.http.host;

    # Tags, under whichever of the usual names the origin says them.
    std.collect(beresp.http.xkey, " ");
    std.collect(beresp.http.Surrogate-Key, " ");
    std.collect(beresp.http.Cache-Tag, " ");
    if (beresp.http.Surrogate-Key || beresp.http.Cache-Tag) {
        set beresp.http.xkey = beresp.http.xkey + " " + beresp.http.Surrogate-Key + " " + beresp.http.Cache-Tag;
    }
}

sub vcl_deliver {
    # Whether the answer was kept here already: Keelson's warm-up wants to see it.
    if (obj.hits > 0) {
        set resp.http.X-Cache = "HIT";
    } else {
        set resp.http.X-Cache = "MISS";
    }
    # What only Varnish needs.
    unset resp.http.x-url;
    unset resp.http.x-host;
    unset resp.http.xkey;
}
