#include "err.h"
#include <stdarg.h>
#include <stdio.h>

static void fill(struct pl_fail *f, const char *field, const char *fmt, va_list ap) PL_PRINTF(3, 0);
static void fill(struct pl_fail *f, const char *field, const char *fmt, va_list ap)
{
    vsnprintf(f->detail, sizeof f->detail, fmt, ap);
    snprintf(f->field, sizeof f->field, "%s", field);
}

enum pl_err pl_fail(struct pl_fail *f, enum pl_err e, const char *fmt, ...)
{
    if (f) {
        va_list ap;
        va_start(ap, fmt);
        fill(f, "", fmt, ap);
        va_end(ap);
    }
    return e;
}

enum pl_err pl_fail_field(struct pl_fail *f, enum pl_err e, const char *field, const char *fmt, ...)
{
    if (f) {
        va_list ap;
        va_start(ap, fmt);
        fill(f, field, fmt, ap);
        va_end(ap);
    }
    return e;
}
