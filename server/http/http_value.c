/* What handlers say in headers about values: which state an object is in (ETag, If-Match) and where a list goes on (cursor, limit, Link). */
#include "http_private.h"

#define TAG_BYTES 12
#define CURSOR_MOST 64

struct pl_str http_tag(struct pl_arena *a, struct pl_str state)
{
    uint8_t hash[32];
    secure_sha256(state, hash);
    return pl_b64url(a, hash, TAG_BYTES);
}

void http_etag(struct http_call *c, struct pl_str tag) { http_reply_header(c, "ETag", pl_fmt(c->arena, "\"%.*s\"", PL_FMT(tag))); }

/* One of a list: "tag", W/"tag"; false: it is malformed. */
static bool take_tag(struct pl_str *list, struct pl_str *ret, bool *ret_weak)
{
    struct pl_str s = pl_str_trim(*list), rest;
    *ret_weak = pl_str_starts(s, PL_STR("W/"));
    if (*ret_weak)
        s = (struct pl_str){ s.p + 2, s.n - 2 };
    if (!s.n || s.p[0] != '"')
        return false;
    s = (struct pl_str){ s.p + 1, s.n - 1 };
    size_t end = pl_str_find(s, '"');
    if (end == s.n)
        return false;
    *ret = (struct pl_str){ s.p, end };
    rest = pl_str_trim((struct pl_str){ s.p + end + 1, s.n - end - 1 });
    if (rest.n && rest.p[0] != ',')
        return false;
    *list = rest.n ? (struct pl_str){ rest.p + 1, rest.n - 1 } : rest;
    return true;
}

enum pl_err http_if_match(const struct http_call *c, struct pl_str tag, struct pl_fail *reterr)
{
    struct pl_str list = http_header(c, "If-Match"), one;
    bool weak, same = false;
    if (!list.p || pl_str_eqz(list, "*"))
        return PL_OK;
    do {
        if (!take_tag(&list, &one, &weak))
            return pl_fail_field(reterr, PL_INVALID_REQUEST, "If-Match", "If-Match: the ETag of an earlier answer is expected.");
        same = same || (!weak && pl_str_eq(one, tag));
    } while (pl_str_trim(list).n);
    return same ? PL_OK : PL_VERSION_CONFLICT;
}

enum pl_err http_page(struct http_call *c, void *key, size_t n, struct http_page *ret, struct pl_fail *reterr)
{
    struct pl_str limit = http_query(c, "limit"), cursor = http_query(c, "cursor");
    uint32_t most = HTTP_PAGE_DEFAULT;
    if (limit.p && pl_parse_u32(limit, 1, HTTP_PAGE_MOST, &most) != PL_OK)
        return pl_fail_field(reterr, PL_INVALID_REQUEST, "limit", "limit: 1 to %d is expected.", HTTP_PAGE_MOST);
    if (n > CURSOR_MOST)
        return PL_INTERNAL;
    if (cursor.p && pl_unb64url(cursor, key, n) != PL_OK)
        return pl_fail_field(reterr, PL_INVALID_REQUEST, "cursor", "cursor: the one of a Link of an earlier answer is expected.");
    *ret = (struct http_page){ .limit = (int32_t)most, .first = !cursor.p };
    return PL_OK;
}

void http_page_next(struct http_call *c, const struct http_page *page, const void *key, size_t n)
{
    struct pl_str cursor = pl_b64url(c->arena, key, n);
    /* Relative to the request's own address: its path stays, its query is replaced. */
    http_reply_header(c, "Link", pl_fmt(c->arena, "<?cursor=%.*s&limit=%d>; rel=\"next\"", PL_FMT(cursor), page->limit));
}
