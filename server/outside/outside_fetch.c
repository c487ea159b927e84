/* outside_fetch.c - a request to a provider by libcurl: bounded in time and size, without redirects, to public addresses. */
#include "outside_int.h"
#include <arpa/inet.h>
#include <curl/curl.h>
#include <unistd.h>

#define ANSWER_MOST (256 * 1024)
#define SILENT PL_SECOND        /* who has answered nobody for longer gets no worker more if it were the last */
#define AWAY (10 * PL_SECOND)  /* for so long a provider that did not answer is not asked for documents */

enum pl_err outside_fetch_init(void) { return curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK ? PL_OK : PL_NO_MEMORY; }

/* ---- where to ---- */

static bool public4(uint32_t a)
{
    static const struct { uint32_t net; unsigned bits; } not[] = { { 0x00000000, 8 }, { 0x0a000000, 8 }, { 0x64400000, 10 }, { 0x7f000000, 8 }, { 0xa9fe0000, 16 }, { 0xac100000, 12 },
        { 0xc0000000, 24 }, { 0xc0000200, 24 }, { 0xc0a80000, 16 }, { 0xc6120000, 15 }, { 0xc6336400, 24 }, { 0xcb007100, 24 }, { 0xe0000000, 3 } };
    for (size_t i = 0; i < PL_COUNT(not); i++)
        if ((a ^ not[i].net) >> (32 - not[i].bits) == 0)
            return false;
    return true;
}

/* Of IPv6 what is given out (2000::/3), without tunnels, in which any IPv4 address may stand, and documentation. */
static bool public6(const uint8_t a[16])
{
    bool teredo = a[0] == 0x20 && a[1] == 0x01 && a[2] == 0 && a[3] == 0, documentation = a[0] == 0x20 && a[1] == 0x01 && a[2] == 0x0d && a[3] == 0xb8;
    return (a[0] & 0xe0) == 0x20 && !(a[0] == 0x20 && a[1] == 0x02) && !teredo && !documentation;
}

bool outside_address_public(const struct sockaddr *sa)
{
    if (sa->sa_family == AF_INET)
        return public4(ntohl(((const struct sockaddr_in *)(const void *)sa)->sin_addr.s_addr));
    return sa->sa_family == AF_INET6 && public6(((const struct sockaddr_in6 *)(const void *)sa)->sin6_addr.s6_addr);
}

static bool loopback(const struct sockaddr *sa)
{
    if (sa->sa_family == AF_INET)
        return ntohl(((const struct sockaddr_in *)(const void *)sa)->sin_addr.s_addr) >> 24 == 127;
    return sa->sa_family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)(const void *)sa)->sin6_addr);
}

bool outside_url_good(const struct outside_provider *p, struct pl_str url)
{
    bool https = pl_str_starts(url, PL_STR("https://")), local = p->local && (pl_str_starts(url, PL_STR("http://127.0.0.1:")) || pl_str_starts(url, PL_STR("http://localhost:")));
    for (size_t i = 0; i < url.n; i++)
        if ((unsigned char)url.p[i] <= ' ' || (unsigned char)url.p[i] >= 0x7f || strchr("#\"\\<>", url.p[i]))
            return false;
    return https || local;
}

/* ---- a request ---- */

struct under_way {
    const struct outside *ctx;
    struct outside_provider *p;
    struct pl_buf body;
    bool refused; /* an address that it may not be at */
};

/* Asked with the address that a name was found at, so that no answer of a name server leads inside. */
static curl_socket_t open_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *to)
{
    struct under_way *u = arg;
    (void)purpose;
    bool may = u->p->local ? loopback(&to->addr) : u->ctx->settings.private_addresses || outside_address_public(&to->addr);
    u->refused = u->refused || !may;
    return may ? socket(to->family, to->socktype | SOCK_CLOEXEC, to->protocol) : CURL_SOCKET_BAD;
}

static size_t take(char *p, size_t size, size_t n, void *arg)
{
    struct under_way *u = arg;
    pl_buf_add(&u->body, p, size * n);
    return pl_buf_err(&u->body) == PL_OK ? size * n : 0;
}

static void curl_freep(CURL **curl) { curl_easy_cleanup(*curl); }
static void slist_freep(struct curl_slist **list) { curl_slist_free_all(*list); }

/* Who is silent is not waited for by each who comes, and leaves one worker to the other providers. */
static enum pl_err enter(const struct outside *ctx, struct outside_provider *p, bool document, struct pl_fail *reterr)
{
    struct pl_mono now = pl_now_mono(ctx->clock);
    PL_LOCK(&p->lock);
    if (document && pl_mono_sub(p->away_until, now) > 0)
        return pl_fail(reterr, PL_PROVIDER_UNAVAILABLE, "The provider did not answer a moment ago.");
    if (!p->under_way)
        p->heard_at = now;
    if (p->under_way && p->under_way >= ctx->settings.workers - 1 && pl_mono_sub(now, p->heard_at) > SILENT)
        return pl_fail(reterr, PL_PROVIDER_UNAVAILABLE, "Others wait for the provider, and it is silent.");
    p->under_way++;
    return PL_OK;
}

static void leave(const struct outside *ctx, struct outside_provider *p, bool answered)
{
    struct pl_mono now = pl_now_mono(ctx->clock);
    PL_LOCK(&p->lock);
    p->under_way--;
    if (answered)
        p->heard_at = now;
    p->away_until = answered ? now : pl_mono_add(now, AWAY);
}

static void set_up(CURL *curl, struct under_way *u, long left_ms)
{
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_QUICK_EXIT, 1L); /* a look-up of a name that hangs is left behind, not waited for */
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, u->p->local ? "http,https" : "https");
    curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(curl, CURLOPT_PROXY, ""); /* where codes and secrets go is said by the settings, not by http_proxy in somebody's shell */
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, left_ms);
    curl_easy_setopt(curl, CURLOPT_USERAGENT, "porchlight");
    curl_easy_setopt(curl, CURLOPT_OPENSOCKETFUNCTION, open_socket);
    curl_easy_setopt(curl, CURLOPT_OPENSOCKETDATA, u);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, u);
    if (u->ctx->ca_file) {
        curl_easy_setopt(curl, CURLOPT_CAINFO, u->ctx->ca_file);
        curl_easy_setopt(curl, CURLOPT_CAPATH, NULL);
    }
}

enum pl_err outside_fetch(const struct outside *ctx, struct outside_provider *p, const struct outside_request *r, struct pl_arena *a, struct outside_answer *ret,
                          struct pl_fail *reterr)
{
    struct under_way u = { .ctx = ctx, .p = p, .body = pl_buf_init(a, ANSWER_MOST) };
    CURL *curl PL_CLEANUP(curl_freep) = curl_easy_init();
    struct curl_slist *headers PL_CLEANUP(slist_freep) = curl_slist_append(NULL, "Accept: application/json");
    const char *url = pl_str_z(a, r->url), *user = r->user.p ? pl_str_z(a, r->user) : "", *password = r->password.p ? pl_str_z(a, r->password) : "";
    int64_t left = pl_mono_sub(r->until, pl_now_mono(ctx->clock)) / PL_MS;
    if (!curl || !headers || !url || !user || !password)
        return PL_NO_MEMORY;
    if (left <= 0)
        return pl_fail(reterr, PL_PROVIDER_UNAVAILABLE, "The provider did not answer in time.");
    set_up(curl, &u, (long)left);
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    if (r->user.p) {
        curl_easy_setopt(curl, CURLOPT_HTTPAUTH, (long)CURLAUTH_BASIC);
        curl_easy_setopt(curl, CURLOPT_USERNAME, user);
        curl_easy_setopt(curl, CURLOPT_PASSWORD, password);
    }
    if (r->form.p) {
        curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE, (long)r->form.n);
        curl_easy_setopt(curl, CURLOPT_POSTFIELDS, r->form.p);
    }
    enum pl_err e = enter(ctx, p, !r->form.p, reterr);
    if (e != PL_OK)
        return e;
    CURLcode rc = curl_easy_perform(curl);
    leave(ctx, p, rc == CURLE_OK || rc == CURLE_WRITE_ERROR);
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &ret->status);
    ret->body = pl_buf_view(&u.body);
    if (rc == CURLE_OK)
        return PL_OK;
    return pl_fail(reterr, PL_PROVIDER_UNAVAILABLE, "%s", u.refused ? "The provider is at an address where it may not be."
        : rc == CURLE_OPERATION_TIMEDOUT ? "The provider did not answer in time." : rc == CURLE_WRITE_ERROR ? "The provider's answer is too large." : "The provider does not answer.");
}
