#include "link_int.h"

static const struct link_message *find_row(const struct link_protocol *p, struct pl_str type, void **ret_self)
{
    for (const struct link_table *t = p->tables; t && t->messages; t++)
        for (const struct link_message *m = t->messages; m->type; m++)
            if (pl_str_eqz(type, m->type)) {
                *ret_self = t->self;
                return m;
            }
    return NULL;
}

enum pl_err link_message_parse(const struct link_protocol *p, uint32_t phase, struct pl_str text, struct pl_arena *a, struct link_parsed *m, struct pl_fail *reterr)
{
    enum pl_err e = json_parse(text, &m->doc, reterr);
    if (e != PL_OK)
        return e == PL_INVALID_REQUEST ? PL_PROTOCOL : e;
    m->id = json_doc_str(m->doc, "id");
    struct pl_str type = json_doc_str(m->doc, "type");
    if (!type.p)
        return pl_fail(reterr, PL_PROTOCOL, "A message needs a member `type`.");
    const struct link_message *row = find_row(p, type, &m->self);
    if (!row)
        return PL_OK;
    if (!(row->phases & phase))
        return pl_fail(reterr, PL_PROTOCOL, "The message `%s` is not permitted now.", row->type);
    void *msg = row->size ? pl_alloc(a, row->size) : NULL;
    if (row->size && !msg)
        return PL_NO_MEMORY;
    if (row->fields && msg)
        e = json_doc_take(m->doc, row->fields, JSON_LENIENT, a, msg, reterr);
    if (e != PL_OK)
        return e == PL_INVALID_REQUEST ? PL_PROTOCOL : e;
    m->row = row;
    m->msg = msg;
    return PL_OK;
}

void link_parsed_done(struct link_parsed *m) { json_doc_freep(&m->doc); }

void link_message_error(struct pl_buf *b, struct pl_str id, enum pl_err e, const struct pl_fail *fail)
{
    struct jw w = jw_start(b);
    jw_open(&w, NULL);
    jw_z(&w, "type", "error");
    if (id.p && id.n <= LINK_ID_BYTES)
        jw_str(&w, "re", id);
    jw_z(&w, "code", pl_err_code(e));
    jw_z(&w, "detail", fail->detail[0] ? fail->detail : pl_err_table[e].sentence);
    if (fail->retry_after_s > 0)
        jw_int(&w, "retry_after", fail->retry_after_s);
    jw_close(&w);
}
