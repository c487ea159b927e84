#include "measure.h"
#include <math.h>

void measure_number(struct measure *m, uint32_t number)
{
    if (m->read++ == 0)
        m->first = number;
    else if (number > m->last)
        m->missing += number - m->last - 1;
    else
        m->backwards++;
    m->last = number;
}

static void end_block(struct measure *m)
{
    double turn = 2.0 * cos(2.0 * M_PI * MEASURE_TONE_HZ / MEASURE_RATE);
    double power = m->s1 * m->s1 + m->s2 * m->s2 - turn * m->s1 * m->s2;
    m->tone_energy += 2.0 * power / MEASURE_BLOCK; /* a pure tone of this frequency then equals its energy */
    m->energy += m->block_energy;
    m->s1 = m->s2 = m->block_energy = 0.0;
    m->in_block = 0;
}

void measure_sound(struct measure *m, const float *samples, size_t n)
{
    double turn = 2.0 * cos(2.0 * M_PI * MEASURE_TONE_HZ / MEASURE_RATE);
    for (size_t i = 0; i < n; i++) {
        double x = (double)samples[i], s = x + turn * m->s1 - m->s2;
        m->s2 = m->s1;
        m->s1 = s;
        m->block_energy += x * x;
        if (++m->in_block == MEASURE_BLOCK)
            end_block(m);
    }
    m->samples += n;
}

double measure_tone(const struct measure *m) { return m->energy > 1e-9 ? m->tone_energy / m->energy : 0.0; }
double measure_level(const struct measure *m)
{
    double whole = (double)(m->samples - m->in_block);
    return whole > 0 ? sqrt(m->energy / whole) : 0.0;
}
