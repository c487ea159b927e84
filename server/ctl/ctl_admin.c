#include "ctl_http.h"
#include "ctl_file.h"
#include "json.h"
#include <stdio.h>

#define COLUMNS PL_COUNT(((struct ctl_view *)0)->columns)
#define MOST_ROWS 100000
#define MOST_INVENTORY (256u << 20)
#define BATCH 500

const struct ctl_view ctl_view_outbox = { "/admin/v1/outbox", "messages", { "created_at", "channel", "to", "pin", "kind", "subject", "attempts", "id" } };
const struct ctl_view ctl_view_status = { .path = "/admin/v1/status" };
const struct ctl_view ctl_view_nodes = { "/admin/v1/nodes", "nodes", { "node_id", "name", "state", "hubs", "version", "started_at", "draining_since", "lease_until" } };
const struct ctl_view ctl_view_relays = { "/admin/v1/relays", "relays",
    { "id", "name", "connected", "media_host", "media_port", "sessions", "viewers", "max_sessions", "busy_percent", "seen_at", "revoked_at" } };
const struct ctl_view ctl_view_hubs = { "/admin/v1/hubs", "hubs", { "serial", "role", "connected", "cause", "changed_at", "firmware", "boot_reason", "reset_count", "device_id" } };
const struct ctl_view ctl_view_sessions = { "/admin/v1/sessions", "sessions", { "live_id", "state", "end_code", "camera_serial", "hub_serial", "viewers", "created_at", "ended_at" } };
const struct ctl_view ctl_view_accounts = { "/admin/v1/accounts", "accounts", { "account_id", "email", "phone", "country", "region", "created_at" } };
const struct ctl_view ctl_view_audit = { .path = "/admin/v1/audit/%s" };
const struct ctl_view ctl_view_oauth_clients = { "/admin/v1/oauth-clients", "clients", { "client_id", "name", "public", "redirect_uris", "created_at" } };
const struct ctl_view ctl_view_admins = { "/admin/v1/admins", "admins", { "name", "state", "invited_by", "created_at", "used_at", "revoked_at", "expires_at" } };
const struct ctl_view ctl_view_log = { "/admin/v1/log", "log", { "number", "at", "action", "detail" } };
const struct ctl_view ctl_view_live = { .path = "/admin/v1/live/%s" };

struct cells { struct pl_str v[COLUMNS]; };
struct rows { struct json_list rows; };

/* Raw JSON as a person reads it: strings without their quotes, null as nothing. */
static struct pl_str shown(struct pl_str raw)
{
    if (raw.n >= 2 && raw.p[0] == '"')
        return (struct pl_str){ raw.p + 1, raw.n - 2 };
    return pl_str_eqz(raw, "null") ? PL_STR("") : raw;
}

static void print_rows(const struct ctl_view *view, const struct json_list *rows)
{
    size_t width[COLUMNS] = { 0 };
    const struct cells *row = rows->items;
    for (size_t k = 0; k < COLUMNS && view->columns[k]; k++) {
        width[k] = strlen(view->columns[k]);
        for (size_t i = 0; i < rows->n; i++)
            if (shown(row[i].v[k]).n > width[k])
                width[k] = shown(row[i].v[k]).n;
        printf("%-*s  ", (int)width[k], view->columns[k]);
    }
    printf("\n");
    for (size_t i = 0; i < rows->n; i++) {
        for (size_t k = 0; k < COLUMNS && view->columns[k]; k++) {
            struct pl_str s = shown(row[i].v[k]);
            printf("%.*s%*s  ", PL_FMT(s), (int)(width[k] - s.n), "");
        }
        printf("\n");
    }
}

static enum pl_err show_table(struct ctl *c, const struct ctl_view *view, struct pl_str text, struct pl_fail *reterr)
{
    struct json_field cell_fields[COLUMNS + 1] = { 0 };
    for (size_t k = 0; k < COLUMNS && view->columns[k]; k++)
        cell_fields[k] = (struct json_field){ .name = view->columns[k], .type = J_RAW, .offset = offsetof(struct cells, v) + k * sizeof(struct pl_str), .hi = 4096 };
    const struct json_field list_fields[] = {
        { .name = view->list, .type = J_ARRAY, .required = J_REQUIRED, .offset = offsetof(struct rows, rows), .fields = cell_fields, .size = sizeof(struct cells), .hi = MOST_ROWS }, J_END };
    struct rows r = { 0 };
    enum pl_err e = json_take(list_fields, JSON_LENIENT, text, c->arena, &r, reterr);
    if (e == PL_OK)
        print_rows(view, &r.rows);
    return e;
}

struct outline { unsigned depth; bool fresh, dash, in_string; };

/* Begins a line when something stands on the last one. */
static void outline_line(struct outline *o, bool first)
{
    if (!o->fresh)
        return;
    unsigned in = o->depth > 1 ? (o->depth - 1) * 2 : 0;
    printf("%s%*s%s", first ? "" : "\n", (int)(o->dash && in >= 2 ? in - 2 : in), "", o->dash ? "- " : "");
    o->fresh = o->dash = false;
}

/* One object: a line a member, deeper ones indented, each object of an array begun by a dash. Walks the text, which the server wrote and json_parse has checked. */
static void print_object(struct pl_str t)
{
    struct outline o = { .fresh = true };
    bool any = false;
    for (size_t i = 0; i < t.n; i++) {
        char ch = t.p[i];
        if (ch == '"') {
            o.in_string = !o.in_string;
            continue;
        }
        if (!o.in_string && strchr("{[}],", ch)) {
            o.dash = o.dash || (ch == '{' && o.depth > 0 && i > 0 && (t.p[i - 1] == '[' || t.p[i - 1] == ','));
            o.depth += ch == '{' || ch == '[' ? 1 : 0;
            o.depth -= (ch == '}' || ch == ']') && o.depth ? 1 : 0;
            o.fresh = true;
            continue;
        }
        outline_line(&o, !any);
        any = true;
        if (ch == '\\' && i + 1 < t.n) /* an escape inside a string: its character as it is, a line break as a blank */
            ch = t.p[++i] == 'n' ? ' ' : t.p[i];
        putchar(ch);
        if (ch == ':' && !o.in_string)
            putchar(' ');
    }
    putchar('\n');
}

enum pl_err ctl_argument(const char *arg, struct pl_fail *reterr)
{
    for (const char *p = arg; *p; p++)
        if (!strchr("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_", *p))
            return pl_fail(reterr, PL_INVALID_REQUEST, "'%s' is no id and no name.", arg);
    return PL_OK;
}

enum pl_err ctl_show(struct ctl *c, struct pl_fail *reterr)
{
    const struct ctl_view *view = c->command->data;
    struct json_doc *d PL_CLEANUP(json_doc_freep) = NULL;
    struct pl_str text = PL_STR_NONE, head, rest;
    head = pl_str_split(pl_str_of(view->path), '%', &rest);
    const char *arg = c->n_args ? c->args[0] : "";
    enum pl_err e = ctl_argument(arg, reterr);
    if (e != PL_OK)
        return e;
    struct pl_str path = pl_fmt(c->arena, "%.*s%s", PL_FMT(head), arg);
    if (!path.p)
        return PL_NO_MEMORY;
    e = ctl_admin(c, "GET", path.p, PL_STR_NONE, &text, reterr);
    if (e == PL_OK)
        e = json_parse(text, &d, reterr);
    if (e != PL_OK)
        return e;
    if (c->json)
        printf("%.*s\n", PL_FMT(text));
    else if (view->list)
        return show_table(c, view, text, reterr);
    else
        print_object(text);
    return PL_OK;
}

static enum pl_err send_batch(struct ctl *c, struct pl_buf *devices, int64_t *imported, int64_t *known, struct pl_fail *reterr)
{
    struct json_doc *d PL_CLEANUP(json_doc_freep) = NULL;
    struct pl_str text = PL_STR_NONE;
    int64_t a = 0, b = 0;
    pl_buf_z(devices, "]}");
    enum pl_err e = pl_buf_err(devices);
    if (e == PL_OK)
        e = ctl_admin(c, "POST", "/admin/v1/inventory", pl_buf_view(devices), &text, reterr);
    if (e == PL_OK)
        e = json_parse(text, &d, reterr);
    if (e == PL_OK)
        e = json_doc_int(d, "imported", &a);
    if (e == PL_OK)
        e = json_doc_int(d, "known", &b);
    *imported += a;
    *known += b;
    devices->n = 0;
    return e;
}

enum pl_err ctl_inventory_import(struct ctl *c, struct pl_fail *reterr)
{
    struct pl_str rest;
    int64_t imported = 0, known = 0, line_no = 0, n = 0;
    enum pl_err e = ctl_read(c->arena, c->args[0], MOST_INVENTORY, &rest, reterr);
    struct pl_buf b = pl_buf_init(c->arena, 1u << 20);
    while (e == PL_OK && rest.n) {
        struct json_doc *d PL_CLEANUP(json_doc_freep) = NULL;
        struct pl_fail why = PL_FAIL_INIT;
        struct pl_str line = pl_str_trim(pl_str_split(rest, '\n', &rest));
        line_no++;
        if (!line.n)
            continue;
        /* Looked at here, so that a mistake is told with its line; what it says is the server's to judge. */
        if (json_parse(line, &d, &why) != PL_OK)
            return pl_fail(reterr, PL_INVALID_REQUEST, "%s, line %lld: %s", c->args[0], (long long)line_no, why.detail);
        pl_buf_z(&b, n ? "," : "{\"devices\":[");
        pl_buf_str(&b, line);
        if (++n == BATCH) {
            e = send_batch(c, &b, &imported, &known, reterr);
            n = 0;
        }
    }
    if (e == PL_OK && n)
        e = send_batch(c, &b, &imported, &known, reterr);
    if (e != PL_OK)
        return e;
    if (c->json)
        printf("{\"imported\":%lld,\"known\":%lld}\n", (long long)imported, (long long)known);
    else
        ctl_say("inventory: %lld devices taken in, %lld were known", (long long)imported, (long long)known);
    return PL_OK;
}

enum pl_err ctl_post(struct ctl *c, const char *path, const struct pl_buf *body, const char *const *members, struct pl_fail *reterr)
{
    struct json_doc *d PL_CLEANUP(json_doc_freep) = NULL;
    struct pl_str text = PL_STR_NONE;
    enum pl_err e = pl_buf_err(body);
    if (e == PL_OK)
        e = ctl_admin(c, "POST", path, pl_buf_view(body), &text, reterr);
    if (e == PL_OK)
        e = json_parse(text, &d, reterr);
    if (e != PL_OK)
        return e;
    if (c->json)
        printf("%.*s\n", PL_FMT(text));
    for (size_t i = 0; !c->json && members[i]; i++)
        if (members[1])
            printf("%-13s  %.*s\n", members[i], PL_FMT(json_doc_str(d, members[i])));
        else
            printf("%.*s\n", PL_FMT(json_doc_str(d, members[i])));
    return PL_OK;
}

enum pl_err ctl_relay_enroll(struct ctl *c, struct pl_fail *reterr)
{
    static const char *const shows[] = { "id", NULL };
    struct pl_buf b = pl_buf_init(c->arena, 4096);
    struct jw w = jw_start(&b);
    uint8_t key[32];
    if (pl_unhex(pl_str_of(c->args[1]), key, sizeof key) != PL_OK)
        return pl_fail(reterr, PL_INVALID_REQUEST, "The public key must be 64 hex digits.");
    jw_open(&w, NULL);
    jw_z(&w, "name", c->args[0]);
    jw_z(&w, "public_key", c->args[1]);
    jw_close(&w);
    return ctl_post(c, "/admin/v1/relays", &b, shows, reterr);
}

enum pl_err ctl_oauth_client_add(struct ctl *c, struct pl_fail *reterr)
{
    static const char *const shows[] = { "client_id", "client_secret", NULL };
    struct pl_buf b = pl_buf_init(c->arena, 65536);
    struct jw w = jw_start(&b);
    jw_open(&w, NULL);
    jw_z(&w, "name", c->args[0]);
    jw_bool(&w, "public", c->public_client);
    jw_array(&w, "redirect_uris");
    for (int i = 1; i < c->n_args; i++)
        jw_z(&w, NULL, c->args[i]);
    jw_end_array(&w);
    jw_close(&w);
    return ctl_post(c, "/admin/v1/oauth-clients", &b, shows, reterr);
}

enum pl_err ctl_remove(struct ctl *c, struct pl_fail *reterr)
{
    struct pl_str text = PL_STR_NONE, path = pl_fmt(c->arena, "%s%s", (const char *)c->command->data, c->args[0]);
    enum pl_err e = ctl_argument(c->args[0], reterr);
    if (e == PL_OK && !path.p)
        e = PL_NO_MEMORY;
    while (e == PL_OK && (e = ctl_admin(c, "DELETE", path.p, PL_STR_NONE, &text, reterr)) == PL_OK && pl_str_eqz(text, "{\"more\":true}"))
        ;
    if (e == PL_OK && c->json && text.n)
        printf("%.*s\n", PL_FMT(text));
    return e;
}
