#include "ctl_http.h"
#include "ctl_check.h"
#include "json.h"
#include <curl/curl.h>
#include <sys/stat.h>
#include <unistd.h>

#define MOST_REPLY (16u << 20)
#define CONNECT_MS 3000L
#define CALL_MS 20000L

static size_t on_bytes(char *p, size_t size, size_t n, void *arg)
{
    struct pl_buf *b = arg;
    pl_buf_add(b, p, size * n);
    return pl_buf_err(b) == PL_OK ? size * n : 0;
}

static struct curl_slist *add_header(struct curl_slist *list, struct pl_arena *a, const char *name, const char *value)
{
    struct pl_str line = value ? pl_fmt(a, "%s: %s", name, value) : PL_STR_NONE;
    struct curl_slist *longer = line.p ? curl_slist_append(list, line.p) : NULL;
    return longer ? longer : list;
}

/* The problem body's code as our own error; an answer that is none is PL_UNAVAILABLE. */
static enum pl_err problem(struct pl_str body, long status, struct pl_fail *reterr)
{
    struct json_doc *d PL_CLEANUP(json_doc_freep) = NULL;
    if (json_parse(body, &d, NULL) == PL_OK) {
        struct pl_str code = json_doc_str(d, "code"), detail = json_doc_str(d, "detail");
        for (int i = 1; i < PL_ERR_COUNT; i++)
            if (pl_str_eqz(code, pl_err_table[i].code))
                return detail.n ? pl_fail(reterr, (enum pl_err)i, "%.*s", PL_FMT(detail)) : (enum pl_err)i;
    }
    return pl_fail(reterr, PL_UNAVAILABLE, "The server answered with status %ld.", status);
}

static enum pl_err perform(CURL *h, const struct ctl_request *q, struct pl_arena *a, struct pl_buf *into, long *ret_status, struct pl_fail *reterr)
{
    struct curl_slist *headers = NULL;
    char why[CURL_ERROR_SIZE] = "";
    struct pl_str url = pl_fmt(a, "%s://%s%s", q->tls ? "https" : "http", q->unix_socket ? "localhost" : q->host, q->path);
    struct pl_str auth = q->bearer ? pl_fmt(a, "Bearer %s", q->bearer) : PL_STR_NONE;
    if (!url.p)
        return PL_NO_MEMORY;
    headers = add_header(headers, a, "Content-Type", q->body.p ? "application/json" : NULL);
    headers = add_header(headers, a, "Authorization", auth.p);
    headers = add_header(headers, a, "Challenge-Key", q->challenge_key);
    headers = add_header(headers, a, "Expect", q->body.p ? "" : NULL);
    curl_easy_setopt(h, CURLOPT_URL, url.p);
    curl_easy_setopt(h, CURLOPT_UNIX_SOCKET_PATH, q->unix_socket);
    if (q->ca_file)
        curl_easy_setopt(h, CURLOPT_CAINFO, q->ca_file);
    curl_easy_setopt(h, CURLOPT_CUSTOMREQUEST, q->method);
    curl_easy_setopt(h, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(h, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(h, CURLOPT_NOPROXY, "*");
    curl_easy_setopt(h, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_MS);
    curl_easy_setopt(h, CURLOPT_TIMEOUT_MS, CALL_MS);
    curl_easy_setopt(h, CURLOPT_ERRORBUFFER, why);
    curl_easy_setopt(h, CURLOPT_WRITEFUNCTION, on_bytes);
    curl_easy_setopt(h, CURLOPT_WRITEDATA, into);
    if (q->body.p) {
        curl_easy_setopt(h, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)q->body.n);
        curl_easy_setopt(h, CURLOPT_POSTFIELDS, q->body.p);
    }
    CURLcode rc = curl_easy_perform(h);
    curl_easy_getinfo(h, CURLINFO_RESPONSE_CODE, ret_status);
    curl_slist_free_all(headers);
    if (rc == CURLE_OK)
        return PL_OK;
    return pl_fail(reterr, PL_UNAVAILABLE, "No answer from %s: %s.", q->unix_socket ? q->unix_socket : q->host, why[0] ? why : curl_easy_strerror(rc));
}

enum pl_err ctl_http(struct pl_arena *a, const struct ctl_request *q, struct pl_str *ret_body, struct pl_fail *reterr)
{
    struct pl_buf b = pl_buf_init(a, MOST_REPLY);
    long status = 0;
    CURL *h = curl_easy_init();
    if (!h)
        return PL_NO_MEMORY;
    enum pl_err e = perform(h, q, a, &b, &status, reterr);
    curl_easy_cleanup(h);
    if (e != PL_OK)
        return e;
    if (status < 200 || status > 299)
        return problem(pl_buf_view(&b), status, reterr);
    if (ret_body)
        *ret_body = pl_buf_view(&b);
    return PL_OK;
}

enum pl_err ctl_admin_at(const char *address, struct ctl_request *q, struct pl_fail *reterr)
{
    bool socket = strncmp(address, "unix:", 5) == 0;
    q->unix_socket = socket ? address + 5 : NULL;
    q->host = socket ? NULL : address;
    return socket ? PL_OK : check_loopback(address, reterr);
}

/* As ssh does with keys: what others can read is no secret any more. */
static enum pl_err read_credential(const struct ctl *c, struct ctl_request *q, struct pl_fail *reterr)
{
    struct json_doc *d PL_CLEANUP(json_doc_freep) = NULL;
    struct pl_str text;
    struct stat st;
    enum pl_err e = ctl_read(c->arena, c->as, 4096, &text, reterr);
    if (e != PL_OK)
        return e;
    if (stat(c->as, &st) != 0 || (st.st_mode & 077))
        return pl_fail(reterr, PL_FORBIDDEN, "%s can be read by others: it must have mode 0600. If they may have read it, revoke this admin.", c->as);
    const char *address = json_parse(text, &d, NULL) == PL_OK ? pl_str_z(c->arena, json_doc_str(d, "admin")) : NULL;
    q->bearer = address ? pl_str_z(c->arena, json_doc_str(d, "credential")) : NULL;
    if (!q->bearer || !q->bearer[0])
        return pl_fail(reterr, PL_INVALID_REQUEST, "%s is no file that `porchctl admin accept` has written.", c->as);
    return ctl_admin_at(address, q, reterr);
}

enum pl_err ctl_admin(struct ctl *c, const char *method, const char *path, struct pl_str body, struct pl_str *ret_body, struct pl_fail *reterr)
{
    struct ctl_paths paths;
    struct ctl_request q = { .method = method, .path = path, .body = body };
    enum pl_err e = c->as ? read_credential(c, &q, reterr) : ctl_paths_of(c, &paths, reterr);
    if (e != PL_OK)
        return e;
    if (c->as)
        return ctl_http(c->arena, &q, ret_body, reterr);
    struct pl_fail why = PL_FAIL_INIT;
    q.unix_socket = paths.admin;
    e = ctl_http(c->arena, &q, ret_body, &why);
    if (e == PL_UNAVAILABLE && access(paths.admin, W_OK) != 0)
        return ctl_not_running(c, &paths, "up", reterr);
    if (e != PL_OK && reterr)
        *reterr = why;
    return e;
}
