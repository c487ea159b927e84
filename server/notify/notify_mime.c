/* notify_mime.c - an e-mail as it goes over the wire (RFC 5322, 2045, 2047), in a form that a signature of the operator's mail server survives: headers always the same and in
 * the same order, From of the domain that also is the sender's and the Message-ID's, seven bits and lines of at most 998 bytes, so that no server on the way rewrites it. */
#include "notify_int.h"
#include <time.h>

#define MAX_MAIL 32768
#define LINE_MOST 998
#define QP_LINE 76
#define WORD_MOST 75 /* of an encoded word */

/* RFC 5322: Sat, 21 Nov 2026 08:58:00 +0000, whatever the locale. */
static void mail_date(struct pl_buf *b, struct pl_utc t)
{
    static const char *const days[] = { "Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat" };
    static const char *const months[] = { "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec" };
    time_t s = (time_t)(t.us / PL_SECOND);
    struct tm tm = { 0 };
    gmtime_r(&s, &tm);
    pl_buf_fmt(b, "Date: %s, %02d %s %d %02d:%02d:%02d +0000\r\n", days[tm.tm_wday], tm.tm_mday, months[tm.tm_mon], tm.tm_year + 1900, tm.tm_hour, tm.tm_min, tm.tm_sec);
}

struct pl_str notify_address_of(struct pl_str from)
{
    struct pl_str inner;
    pl_str_split(from, '<', &inner);
    return inner.n ? pl_str_split(inner, '>', &(struct pl_str){ 0 }) : pl_str_trim(from);
}

static bool is_ascii(struct pl_str s)
{
    for (size_t i = 0; i < s.n; i++)
        if ((unsigned char)s.p[i] >= 0x80)
            return false;
    return true;
}

static size_t char_size(struct pl_str s, size_t at)
{
    size_t n = 1;
    while (at + n < s.n && ((unsigned char)s.p[at + n] & 0xc0) == 0x80)
        n++;
    return n;
}

static bool is_plain(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'); }

/* RFC 2047: words that each hold whole characters. */
static void add_encoded(struct pl_buf *out, struct pl_str s)
{
    static const char start[] = "=?utf-8?q?";
    size_t used = 0;
    for (size_t i = 0, n; i < s.n; i += n) {
        n = char_size(s, i);
        size_t need = n == 1 && is_plain(s.p[i]) ? 1 : 3 * n;
        if (used == 0 || used + need + 2 > WORD_MOST) {
            pl_buf_z(out, used ? "?=\r\n " : "");
            pl_buf_z(out, start);
            used = sizeof start - 1;
        }
        for (size_t k = 0; k < n; k++)
            if (need == 1)
                pl_buf_u8(out, (uint8_t)s.p[i]);
            else
                pl_buf_fmt(out, "=%02X", (unsigned char)s.p[i + k]);
        used += need;
    }
    pl_buf_z(out, "?=");
}

static void add_text(struct pl_buf *out, struct pl_str s)
{
    if (is_ascii(s))
        pl_buf_str(out, s);
    else
        add_encoded(out, s);
}

static void add_from(struct pl_buf *out, struct pl_str from)
{
    struct pl_str rest, name = pl_str_trim(pl_str_split(from, '<', &rest));
    if (is_ascii(name)) {
        pl_buf_str(out, from);
        return;
    }
    add_encoded(out, name);
    pl_buf_fmt(out, " <%.*s>", PL_FMT(notify_address_of(from)));
}

/* ---- body ---- */

static bool is_seven_bit(struct pl_str text)
{
    struct pl_str rest = text;
    while (rest.n)
        if (pl_str_split(rest, '\n', &rest).n > LINE_MOST)
            return false;
    return is_ascii(text);
}

static void add_quoted_line(struct pl_buf *out, struct pl_str line)
{
    size_t used = 0;
    for (size_t i = 0; i < line.n; i++) {
        unsigned char c = (unsigned char)line.p[i];
        bool as_is = (c > ' ' && c < 0x7f && c != '=') || (c == ' ' && i + 1 < line.n);
        size_t need = as_is ? 1 : 3;
        if (used + need > QP_LINE - 1) {
            pl_buf_z(out, "=\r\n");
            used = 0;
        }
        if (as_is)
            pl_buf_u8(out, c);
        else
            pl_buf_fmt(out, "=%02X", c);
        used += need;
    }
}

/* What stands in a header is ours or was checked when it came; a line's end in it is refused all the same. */
static bool is_header_safe(struct pl_str s)
{
    for (size_t i = 0; i < s.n; i++)
        if ((unsigned char)s.p[i] < ' ' || s.p[i] == 0x7f)
            return false;
    return true;
}

enum pl_err notify_mime(const char *from, struct pl_uuid id, struct pl_utc now, const struct notify_body *b, struct pl_arena *a, struct pl_str *ret)
{
    char text[PL_UUID_TEXT];
    struct pl_str host, rest = b->text;
    bool seven_bit = is_seven_bit(b->text);
    struct pl_buf out = pl_buf_init(a, MAX_MAIL);
    if (!is_header_safe(b->to) || !is_header_safe(b->subject) || !is_header_safe(pl_str_of(from)) || pl_str_find(b->to, '>') < b->to.n)
        return PL_INVALID_REQUEST;
    pl_str_split(notify_address_of(pl_str_of(from)), '@', &host);
    pl_uuid_text(id, text);
    mail_date(&out, now);
    pl_buf_z(&out, "From: ");
    add_from(&out, pl_str_of(from));
    pl_buf_fmt(&out, "\r\nTo: <%.*s>\r\nSubject: ", PL_FMT(b->to));
    add_text(&out, b->subject);
    pl_buf_fmt(&out, "\r\nMessage-ID: <%s@%.*s>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: %s\r\n", text, PL_FMT(host),
               seven_bit ? "7bit" : "quoted-printable");
    if (b->locale.n)
        pl_buf_fmt(&out, "Content-Language: %.*s\r\n", PL_FMT(b->locale));
    pl_buf_z(&out, "Auto-Submitted: auto-generated\r\n\r\n");
    while (rest.n) {
        struct pl_str line = pl_str_split(rest, '\n', &rest);
        if (seven_bit)
            pl_buf_str(&out, line);
        else
            add_quoted_line(&out, line);
        pl_buf_z(&out, "\r\n");
    }
    *ret = pl_buf_view(&out);
    return pl_buf_err(&out);
}
