#include "source.h"
#include "copier.h"
#include "filler.h"

enum pl_err source_open(const char *what, const atomic_bool *stop, struct source **ret, struct pl_fail *reterr)
{
    if (filler_wanted(what))
        return filler_open(what, ret);
    if (copier_wanted(what))
        return copier_open(what, stop, ret, reterr);
    return pl_str_eqz(pl_str_of(what), "test") ? source_open_test(ret) : source_open_input(what, stop, ret, reterr);
}
