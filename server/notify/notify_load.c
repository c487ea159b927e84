/* notify_load.c - reads the texts: those that are compiled in, and over them those of the operator's folder, <locale>/<message>.txt. A file that cannot be used is refused at
 * the start, with its line: a placeholder is data, and one that its message does not have would otherwise be found by a person who waits for a PIN. */
#include "notify_int.h"
#include <dirent.h>
#include <stdio.h>

#define TEXTS_MOST 4096
#define FILE_MOST 16384
#define SUBJECT_MOST 120
#define PART_MOST 3000 /* with its values it fits into what a message may be (notify_text.c) */
#define SETTING "notify.messages"

static const char *const part_names[NOTIFY_PARTS] = { "subject", "email", "sms", "ask", "voice", "ordinals" };

struct notify_texts {
    struct pl_arena *arena;
    struct notify_text *all; /* later ones before earlier ones */
    size_t n;
};

/* One file under way. */
struct source {
    struct pl_arena *a;
    const char *path; /* as errors name it */
    const struct notify_rule *rule;
    struct notify_text *text;
    struct pl_fail *reterr;
};

static enum pl_err wrong(const struct source *s, unsigned line, const char *what, struct pl_str detail)
{
    return pl_fail_field(s->reterr, PL_INVALID_REQUEST, SETTING, "%s:%u: %s%.*s", s->path, line, what, PL_FMT(detail));
}

/* ---- what a text may hold ---- */

static bool among(const char *const *names, struct pl_str name)
{
    for (size_t i = 0; names && names[i]; i++)
        if (pl_str_eqz(name, names[i]))
            return true;
    return false;
}

/* `places`: what may stand in braces, NULL at the end. *ret_times: how often `needs` does. */
static enum pl_err check_places(const struct source *s, unsigned line, struct pl_str text, const char *const *places, const char *needs, unsigned *ret_times)
{
    *ret_times = 0;
    for (size_t i = 0; i < text.n; i++) {
        line += text.p[i] == '\n';
        if (text.p[i] != '{')
            continue;
        struct pl_str rest = { text.p + i + 1, text.n - i - 1 }, after, name = pl_str_split(rest, '}', &after);
        if (name.n == rest.n || pl_str_find(name, '\n') < name.n)
            return wrong(s, line, "a { without its }", PL_STR(""));
        if (!among(places, name))
            return wrong(s, line, "there is no such placeholder here: ", name);
        *ret_times += needs && pl_str_eqz(name, needs);
        i += name.n + 1;
    }
    return PL_OK;
}

static enum pl_err check_part(const struct source *s, unsigned line, enum notify_part part, struct pl_str text)
{
    bool body = part == NOTIFY_P_EMAIL || part == NOTIFY_P_SMS || part == NOTIFY_P_VOICE;
    unsigned times, least = !body || !s->rule->needs ? 0 : part == NOTIFY_P_VOICE ? 2 : 1; /* S-P12: a voice says it twice */
    enum pl_err e = check_places(s, line, text, body ? s->rule->places : NULL, s->rule->needs, &times);
    if (e == PL_OK && times < least)
        return wrong(s, line, "a placeholder is missing: ", pl_str_of(s->rule->needs));
    if (e == PL_OK && part != NOTIFY_P_EMAIL && pl_str_find(text, '\n') < text.n)
        return wrong(s, line, "this stands on one line: ", pl_str_of(part_names[part]));
    return e == PL_OK && text.n > (part == NOTIFY_P_SUBJECT ? SUBJECT_MOST : PART_MOST) ? wrong(s, line, "this is too long: ", pl_str_of(part_names[part])) : e;
}

static bool plain(struct pl_str text)
{
    for (size_t i = 0; i < text.n; i++)
        if (((unsigned char)text.p[i] < ' ' && text.p[i] != '\n') || text.p[i] == 0x7f)
            return false;
    return pl_str_is_utf8(text);
}

/* ---- sections ---- */

/* Blank lines around a section are not of it. */
static struct pl_str framed(const char *from, const char *to)
{
    while (from < to && *from == '\n')
        from++;
    while (to > from && (to[-1] == '\n' || to[-1] == ' '))
        to--;
    return (struct pl_str){ from, (size_t)(to - from) };
}

static enum pl_err take_word(const struct source *s, unsigned line, struct pl_str name, struct pl_str text)
{
    static const char *const places[] = { "count", "name", NULL };
    unsigned times;
    for (size_t i = 0; s->rule->words && s->rule->words[i]; i++)
        if (pl_str_eqz(name, s->rule->words[i])) {
            s->text->words[i] = text;
            return check_places(s, line + 1, text, places, NULL, &times);
        }
    return wrong(s, line, "this message has no such word: ", name);
}

static enum pl_err take_section(const struct source *s, unsigned line, struct pl_str name, struct pl_str text)
{
    struct pl_str word;
    if (!text.n)
        return wrong(s, line, "nothing stands under this: ", name);
    if (!plain(text))
        return wrong(s, line, "plain UTF-8 without control characters is expected under this: ", name);
    if (pl_str_eqz(pl_str_split(name, ' ', &word), "word"))
        return take_word(s, line, word, text);
    for (int p = 0; p < NOTIFY_PARTS; p++)
        if (pl_str_eqz(name, part_names[p]) && (s->rule->parts & NOTIFY_HAS(p))) {
            s->text->parts[p] = text;
            return check_part(s, line + 1, (enum notify_part)p, text);
        }
    return wrong(s, line, "this message has no such section: ", name);
}

static enum pl_err check_whole(const struct source *s, unsigned line)
{
    for (int p = 0; p < NOTIFY_PARTS; p++)
        if ((s->rule->parts & NOTIFY_HAS(p)) && !s->text->parts[p].n)
            return wrong(s, line, "a section is missing: ", pl_str_of(part_names[p]));
    for (size_t i = 0; s->rule->words && s->rule->words[i]; i++)
        if (!s->text->words[i].n)
            return wrong(s, line, "a section is missing: word ", pl_str_of(s->rule->words[i]));
    return PL_OK;
}

/* "[sms]" on a line of its own begins a section. */
static bool is_head(struct pl_str line, struct pl_str *ret_name)
{
    line = pl_str_trim(line);
    bool is = line.n > 2 && line.p[0] == '[' && line.p[line.n - 1] == ']';
    if (is)
        *ret_name = (struct pl_str){ line.p + 1, line.n - 2 };
    return is;
}

static enum pl_err parse(const struct source *s, struct pl_str text)
{
    struct pl_str rest = text, name = PL_STR_NONE, next = PL_STR_NONE;
    const char *begin = text.p;
    unsigned number = 0, head = 1;
    enum pl_err e = PL_OK;
    while (e == PL_OK && rest.n) {
        struct pl_str line = pl_str_split(rest, '\n', &rest);
        number++;
        if (!is_head(line, &next)) {
            if (!name.p && pl_str_trim(line).n && line.p[0] != '#')
                e = wrong(s, number, "a section is expected first, such as [subject]", PL_STR(""));
            continue;
        }
        if (name.p)
            e = take_section(s, head, name, framed(begin, line.p));
        name = next;
        head = number;
        begin = line.p + line.n + (rest.n != 0);
    }
    if (e == PL_OK && name.p)
        e = take_section(s, head, name, framed(begin, text.p + text.n));
    return e == PL_OK ? check_whole(s, number) : e;
}

static enum pl_err add(struct notify_texts *t, const char *path, const char *locale, struct pl_str name, struct pl_str text, struct pl_fail *reterr)
{
    struct source s = { .a = t->arena, .path = path, .reterr = reterr, .text = &t->all[TEXTS_MOST - 1 - t->n] };
    int kind = 0;
    while (kind < NOTIFY_KINDS && !pl_str_eqz(name, notify_rules[kind].name))
        kind++;
    if (kind == NOTIFY_KINDS)
        return wrong(&s, 1, "there is no message of this name: ", name);
    if (t->n + 1 == TEXTS_MOST)
        return wrong(&s, 1, "there are too many files", PL_STR(""));
    s.rule = &notify_rules[kind];
    *s.text = (struct notify_text){ .kind = (enum notify_kind)kind, .locale = pl_str_dup(t->arena, pl_str_of(locale)) };
    enum pl_err e = s.text->locale.p ? parse(&s, text) : PL_NO_MEMORY;
    t->n += e == PL_OK;
    return e;
}

/* ---- the operator's folder ---- */

static void close_dirp(DIR **d)
{
    if (*d)
        closedir(*d);
}

static void close_filep(FILE **f)
{
    if (*f)
        fclose(*f);
}

static enum pl_err read_file(struct pl_arena *a, const char *path, struct pl_str *ret, struct pl_fail *reterr)
{
    FILE *f PL_CLEANUP(close_filep) = fopen(path, "re");
    char *mem = pl_alloc(a, FILE_MOST + 1);
    size_t n = f && mem ? fread(mem, 1, FILE_MOST + 1, f) : 0, k = 0;
    if (!mem)
        return PL_NO_MEMORY;
    if (!f || ferror(f) || n > FILE_MOST)
        return pl_fail_field(reterr, PL_INVALID_REQUEST, SETTING, "%s cannot be read, or has more than %d bytes", path, FILE_MOST);
    for (size_t i = 0; i < n; i++) /* lines may end as Windows ends them */
        if (mem[i] != '\r')
            mem[k++] = mem[i];
    *ret = (struct pl_str){ mem, k };
    return PL_OK;
}

static enum pl_err load_locale(struct notify_texts *t, const char *folder, const char *locale, struct pl_fail *reterr)
{
    static const struct pl_str end = PL_STR(".txt");
    struct pl_str path = pl_fmt(t->arena, "%s/%s", folder, locale), text;
    DIR *d PL_CLEANUP(close_dirp) = path.p ? opendir(path.p) : NULL;
    enum pl_err e = path.p ? PL_OK : PL_NO_MEMORY;
    if (d && !notify_locale_ok(pl_str_of(locale)))
        return pl_fail_field(reterr, PL_INVALID_REQUEST, SETTING, "%s is no name of a locale, such as de or pt-BR", path.p);
    for (struct dirent *entry; d && e == PL_OK && (entry = readdir(d));) {
        struct pl_str name = pl_str_of(entry->d_name), file;
        if (name.n <= end.n || !pl_str_eq((struct pl_str){ name.p + name.n - end.n, end.n }, end))
            continue;
        file = pl_fmt(t->arena, "%s/%s", path.p, entry->d_name);
        e = file.p ? read_file(t->arena, file.p, &text, reterr) : PL_NO_MEMORY;
        if (e == PL_OK)
            e = add(t, file.p, locale, (struct pl_str){ name.p, name.n - end.n }, text, reterr);
    }
    return e;
}

static enum pl_err load_folder(struct notify_texts *t, const char *folder, struct pl_fail *reterr)
{
    DIR *d PL_CLEANUP(close_dirp) = opendir(folder);
    enum pl_err e = PL_OK;
    if (!d)
        return pl_fail_field(reterr, PL_INVALID_REQUEST, SETTING, "the folder %s cannot be opened", folder);
    for (struct dirent *entry; e == PL_OK && (entry = readdir(d));)
        if (entry->d_name[0] != '.')
            e = load_locale(t, folder, entry->d_name, reterr);
    return e;
}

enum pl_err notify_texts_load(const char *folder, struct notify_texts **ret, struct pl_fail *reterr)
{
    struct notify_texts *t = pl_heap(sizeof *t);
    enum pl_err e = PL_OK;
    if (!t || !(t->arena = pl_arena_new(16 << 20)) || !(t->all = PL_NEW_ARRAY(t->arena, TEXTS_MOST, struct notify_text)))
        e = PL_NO_MEMORY;
    for (size_t i = 0; e == PL_OK && i < notify_embedded_n; i++)
        e = add(t, notify_embedded[i].name, notify_embedded[i].locale, pl_str_of(notify_embedded[i].name), notify_embedded[i].text, reterr);
    if (e == PL_OK && folder)
        e = load_folder(t, folder, reterr);
    if (e == PL_OK)
        *ret = t;
    else
        notify_texts_free(t);
    return e;
}

struct notify_texts *notify_texts_free(struct notify_texts *t)
{
    if (t)
        pl_arena_free(t->arena);
    return pl_heap_free(t);
}

/* ---- finding ---- */

bool notify_locale_ok(struct pl_str tag)
{
    struct pl_str rest = tag, part;
    bool first = true;
    if (!tag.n || tag.n > NOTIFY_LOCALE_MOST || tag.p[tag.n - 1] == '-')
        return false;
    for (; rest.n; first = false) {
        part = pl_str_split(rest, '-', &rest);
        if (!part.n || part.n > 8 || (first && part.n < 2))
            return false;
        for (size_t i = 0; i < part.n; i++) {
            char c = (char)(part.p[i] | 0x20);
            if (!(c >= 'a' && c <= 'z') && (first || part.p[i] < '0' || part.p[i] > '9'))
                return false;
        }
    }
    return true;
}

static const struct notify_text *exact(const struct notify_texts *t, enum notify_kind kind, struct pl_str locale)
{
    for (const struct notify_text *x = t->all + TEXTS_MOST - t->n; x < t->all + TEXTS_MOST; x++)
        if (x->kind == kind && pl_str_eq_nocase(x->locale, locale))
            return x;
    return NULL;
}

const struct notify_text *notify_text_next(const struct notify_texts *t, const struct notify_text *after)
{
    const struct notify_text *next = after ? after + 1 : t->all + TEXTS_MOST - t->n;
    return next < t->all + TEXTS_MOST ? next : NULL;
}

/* RFC 4647, section 3.4: the last subtag goes, and with it a single letter that would then be the last. */
static struct pl_str shorter(struct pl_str range)
{
    while (range.n && range.p[range.n - 1] != '-')
        range.n--;
    range.n -= range.n != 0;
    bool single = range.n >= 2 && range.p[range.n - 2] == '-';
    return single ? (struct pl_str){ range.p, range.n - 2 } : range;
}

const struct notify_text *notify_text_find(const struct notify_texts *t, enum notify_kind kind, struct pl_str locale)
{
    for (struct pl_str range = locale; range.n; range = shorter(range)) {
        const struct notify_text *x = exact(t, kind, range);
        if (x)
            return x;
    }
    return exact(t, kind, PL_STR(NOTIFY_LOCALE_DEFAULT));
}
