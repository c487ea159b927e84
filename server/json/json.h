/* json.h - JSON by field tables over jansson: what is expected is data, what is not expected is refused by name.
 *
 * Parsing: limits first (bytes, depth 16), doubled keys refused, a refusal of memory ends it, strings must be UTF-8 without NUL. A table maps members into a struct; unknown members
 * are refused with their name (JSON_STRICT) or ignored (JSON_LENIENT: hub protocol, so that it can grow). Building: pl_buf and the jw_ writer.
 * Not here: files, HTTP. Threads: any; memory: the caller's arena (the parse tree is freed with the arena's scope by json_doc_freep).
 *     struct login_body { struct pl_str email, password; };
 *     static const struct json_field login_fields[] = { JSON_F(struct login_body, email, J_EMAIL, J_REQUIRED), JSON_F(struct login_body, password, J_STR, J_REQUIRED, .lo = 8, .hi = 512), J_END };
 *     e = json_take(login_fields, JSON_STRICT, text, arena, &body, &fail);
 */
#pragma once
#include "rand.h"

enum json_type {
    J_T_END,
    J_STR,      /**< struct pl_str, NUL-free UTF-8; lo..hi in code points (hi 0: 256) */
    J_INT,      /**< int64_t in lo..hi */
    J_BOOL,     /**< bool */
    J_NUM,      /**< double, finite */
    J_UUID,     /**< struct pl_uuid */
    J_EMAIL,    /**< struct pl_str: one '@', a dot behind it, no blanks, at most 254 bytes; trimmed and lower-cased */
    J_PHONE,    /**< struct pl_str: E.164, "+" and 7..15 digits */
    J_PIN,      /**< struct pl_str: exactly six ASCII digits */
    J_COUNTRY,  /**< struct pl_str: two upper-case letters */
    J_SERIAL,   /**< struct pl_str: 8..32 of A-Z 0-9; dashes and blanks dropped, lower case raised */
    J_TIME,     /**< struct pl_utc, RFC 3339 */
    J_B64,      /**< struct pl_str: base64url text decoded into the arena; lo..hi in bytes */
    J_ENUM,     /**< int: index in .words */
    J_OBJECT,   /**< nested struct by .fields at offset */
    J_RAW,      /**< struct pl_str: any JSON value, as compact text; hi in bytes (0: 16384) */
    J_ARRAY,    /**< struct json_list of nested structs by .fields (.size each), at most hi */
    J_STRS      /**< struct json_list of struct pl_str, at most hi */
};
enum { J_OPTIONAL = 0, J_REQUIRED = 1 };

struct json_list {
    void *items; /**< array in the arena; NULL: absent */
    size_t n;
};
struct json_field {
    const char *name;
    enum json_type type;
    int required;
    size_t offset;                   /**< of the value in the struct */
    size_t has;                      /**< offset + 1 of a bool that says whether the member was there; 0: none */
    int64_t lo, hi;
    const char *const *words;        /**< J_ENUM: NULL-terminated */
    const struct json_field *fields; /**< J_OBJECT, J_ARRAY */
    size_t size;                     /**< J_ARRAY: of one element */
};
#define JSON_F(st, member, type_, required_, ...) { .name = #member, .type = (type_), .required = (required_), .offset = offsetof(st, member), __VA_ARGS__ }
/* With a presence flag `has_<member>` in the struct. */
#define JSON_OPT(st, member, type_, ...) { .name = #member, .type = (type_), .offset = offsetof(st, member), .has = offsetof(st, has_##member) + 1, __VA_ARGS__ }
#define J_END { .type = J_T_END }

enum json_mode { JSON_STRICT, JSON_LENIENT };

/* Parses `text` (an object) and fills *out by the table. Absent optional members stay as they are in *out. PL_INVALID_REQUEST with the field's name and what
 * was expected. Strings are copied into the arena. */
PL_MUST enum pl_err json_take(const struct json_field *fields, enum json_mode mode, struct pl_str text, struct pl_arena *a, void *out, struct pl_fail *reterr);

/* A parsed document, for the few places that look before they know the table (link: `type`). */
struct json_doc;
PL_MUST enum pl_err json_parse(struct pl_str text, struct json_doc **ret, struct pl_fail *reterr);
void json_doc_freep(struct json_doc **d);
/* A string member of the top object; .p NULL when absent or not a string. Lives as long as the document. */
struct pl_str json_doc_str(const struct json_doc *d, const char *name);
/* An integer member of the top object. */
PL_MUST enum pl_err json_doc_int(const struct json_doc *d, const char *name, int64_t *ret);
PL_MUST enum pl_err json_doc_take(const struct json_doc *d, const struct json_field *fields, enum json_mode mode, struct pl_arena *a, void *out, struct pl_fail *reterr);
/* The member as compact JSON text in the arena; .p NULL when absent. */
struct pl_str json_doc_raw(const struct json_doc *d, const char *name, struct pl_arena *a);

/* Writer: appends to a pl_buf, puts the commas itself. Failures stick in the buffer.
 *     struct jw w = jw_start(&buf);
 *     jw_open(&w, NULL); jw_str(&w, "name", s); jw_array(&w, "devices"); jw_open(&w, NULL); ... jw_close(&w); jw_end_array(&w); jw_close(&w); */
struct jw {
    struct pl_buf *b;
    uint32_t comma; /**< bit per depth: a member was written */
    unsigned depth; /**< 0..31 */
};
struct jw jw_start(struct pl_buf *b);
void jw_open(struct jw *w, const char *name); /* {  ; name NULL at top and in arrays */
void jw_close(struct jw *w);                  /* }  */
void jw_array(struct jw *w, const char *name);
void jw_end_array(struct jw *w);
void jw_str(struct jw *w, const char *name, struct pl_str s); /* .p NULL is written as null */
void jw_z(struct jw *w, const char *name, const char *s);
void jw_int(struct jw *w, const char *name, int64_t v);
void jw_num(struct jw *w, const char *name, double v);
void jw_bool(struct jw *w, const char *name, bool v);
void jw_null(struct jw *w, const char *name);
void jw_uuid(struct jw *w, const char *name, struct pl_uuid u);
void jw_utc(struct jw *w, const char *name, struct pl_utc t);
void jw_b64(struct jw *w, const char *name, const void *p, size_t n); /* base64url */
void jw_raw(struct jw *w, const char *name, struct pl_str json);      /* already JSON; .p NULL is null */
