/* A whole program that bptt judge calls: tanh_rnn by hand, in C without libraries.
 *     cc -O1 -o tanh_rnn tanh_rnn.c -lm && bptt judge --command ./tanh_rnn --cell tanh_rnn
 * A case is a line of JSON in, its result a line out.  strtod reads "hex" and %a writes it, so that no bit is lost.
 * Built with -DWRONG it uses h[t] where h[t-1] belongs. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#define EACH(i, n) for (int i = 0; i < (n); i++)
#define BETWEEN " \t\r\n,:"

typedef struct Value { /* kind: { [ " or the first letter of a number, true, false, null */
    int count;
    char kind, *text, *key;
    struct Value *first, *next; /* the first inside; the next beside it */
} Value;

static _Alignas(16) char pool[1 << 27]; /* zeros, used anew for every case */
static size_t used;
static void *room(size_t n) {
    if (n > sizeof pool - used - 16) exit(70);
    used += (n + 15) / 16 * 16;
    return pool + used - (n + 15) / 16 * 16;
}

static char *string(char **s) { /* names are plain; of what is escaped only the end matters */
    char *start = ++*s;
    while (**s && **s != '"') *s += **s == '\\' && (*s)[1] ? 2 : 1;
    if (**s) *(*s)++ = 0;
    return start;
}

static Value *parse(char **s) {
    Value *v = room(sizeof *v), **end = &v->first;
    v->kind = *(*s += strspn(*s, BETWEEN));
    if (v->kind == '"') v->text = string(s);
    else if (v->kind == '{' || v->kind == '[') {
        for (++*s; *s += strspn(*s, BETWEEN), **s && !strchr("}]", **s); v->count++, end = &(*end)->next) {
            char *key = v->kind == '{' ? string(s) : "";
            *end = parse(s);
            (*end)->key = key;
        }
        *s += **s != 0;
    } else v->text = *s, *s += strcspn(*s, BETWEEN "]}");
    return v;
}

static Value *get(Value *v, const char *key) { /* NULL where there is nothing, or null */
    for (v = v ? v->first : NULL; v; v = v->next)
        if (!strcmp(v->key, key)) return v->kind == 'n' ? NULL : v;
    return NULL;
}

static double *array(Value *v) { /* NULL where there is none */
    Value *list = get(v, "hex") ? get(v, "hex") : get(v, "values"), *one = list ? list->first : NULL;
    double *x = list ? room(list->count * 8) : NULL;
    for (double *to = x; one; one = one->next) *to++ = one->kind == 'n' ? NAN : strtod(one->text, NULL);
    return x;
}

static int is(Value *v, const char *key, const char *text) { return get(v, key) && !strcmp(get(v, key)->text, text); }

static void print(const char *before, const char *name, int axes, const int *shape, const double *x) {
    int n = 1;
    printf("%s\"%s\": {\"shape\": ", before, name);
    EACH(i, axes) printf("%c%d", i ? ',' : '[', shape[i]), n *= shape[i];
    EACH(i, n) printf("%s\"%a\"", i ? "," : "], \"hex\": [", x[i]);
    printf("]}");
}

static void add(double *out, const double *W, const double *v, int rows, int columns) { /* out += W v */
    EACH(i, rows) EACH(j, columns) out[i] += W[i * columns + j] * v[j];
}
static void add_back(double *out, const double *W, const double *v, int rows, int columns) { /* out += W^T v */
    EACH(i, rows) EACH(j, columns) out[j] += W[i * columns + j] * v[i];
}
static void add_outer(double *out, const double *a, const double *b, int rows, int columns) { /* out += a b^T */
    EACH(i, rows) EACH(j, columns) out[i * columns + j] += a[i] * b[j];
}

static void answer(int id, Value *c) {
    Value *params = get(c, "params"), *sizes = get(c, "sizes"), *given = get(c, "cotangents");
    int T = atoi(get(c, "T")->text), B = atoi(get(c, "B")->text), last = is(c, "at", "last"), on_h = is(c, "on", "h");
    int H = atoi(get(sizes, "H")->text), D = atoi(get(sizes, "D")->text), O = atoi(get(sizes, "O")->text);
    double *Whh = array(get(params, "W_hh")), *Wxh = array(get(params, "W_xh")), *Why = array(get(params, "W_hy"));
    double *bias = array(get(params, "b")), *X = array(get(get(c, "inputs"), "x")), *len = array(get(c, "lengths"));
    double *h0 = array(get(get(c, "initial"), "h")), *target = array(get(c, "targets")), L = 0, count = 0;
    double *coty = get(given, "y") ? array(get(given, "y")) : room(T * B * O * 8);
    double *coth = get(given, "h") ? array(get(given, "h")) : room(T * B * H * 8);
    double *dWhh = room(H * H * 8), *dWxh = room(H * D * 8), *dWhy = room(O * H * 8), *db = room(H * 8);
    double *dX = room(T * B * D * 8), *dh0 = room(B * H * 8), *Y = room(T * B * O * 8), *h = room((T + 1) * H * 8);
    double *gy = room(T * O * 8), *gh = room(T * H * 8), *delta = room(H * 8); /* gradients by y[t] and h[t] */
    int entropy = is(c, "loss", "softmax_cross_entropy"), linear = is(c, "loss", "linear"), N = on_h ? H : O;
    int spread = target && get(get(c, "targets"), "shape")->count == (last ? 2 : 3);
    EACH(b, B) count += last ? 1 : len ? len[b] : T;
    double w = is(c, "reduction", "mean") ? 1 / count : 1;
    EACH(b, B) {
        int end = len ? (int)len[b] : T;
        memcpy(h, h0 + b * H, H * 8), memset(gy, 0, T * O * 8), memset(gh, 0, T * H * 8);
        EACH(t, end) { /* h + t*H is what the text calls h[t-1] */
            double *now = h + (t + 1) * H, *y = Y + (t * B + b) * O;
            int at = last ? b : t * B + b;
            memcpy(now, bias, H * 8), add(now, Whh, now - H, H, H), add(now, Wxh, X + (t * B + b) * D, H, D);
            EACH(i, H) now[i] = tanh(now[i]);
            add(y, Why, now, O, H);
            if (last && t < end - 1) continue;
            EACH(o, linear ? O : 0) L += y[o] * (gy[t * O + o] = w * coty[at * O + o]);
            EACH(i, linear ? H : 0) L += now[i] * (gh[t * H + i] = w * coth[at * H + i]);
            if (linear) continue;
            double *v = on_h ? now : y, *g = on_h ? gh + t * H : gy + t * O, top = v[0], sum = 0, mass = 0;
            EACH(k, N) top = v[k] > top ? v[k] : top;
            EACH(k, N) sum += exp(v[k] - top), mass += spread ? target[at * N + k] : k == (int)target[at];
            EACH(k, N) {
                double goal = spread ? target[at * N + k] : k == (int)target[at];
                L += w * (entropy ? goal * (top + log(sum) - v[k]) : (v[k] - goal) * (v[k] - goal) / 2);
                g[k] = w * (entropy ? mass * exp(v[k] - top) / sum - goal : v[k] - goal);
            }
        }
        for (int t = end - 1; t >= 0; t--) {
            double *now = h + (t + 1) * H, *before = h + t * H, *dh = gh + t * H, *dy = gy + t * O;
#ifdef WRONG
            before = now;
#endif
            add_back(dh, Why, dy, O, H), add_outer(dWhy, dy, now, O, H);
            EACH(i, H) db[i] += delta[i] = dh[i] * (1 - now[i] * now[i]);
            add_outer(dWhh, delta, before, H, H), add_outer(dWxh, delta, X + (t * B + b) * D, H, D);
            add_back(dX + (t * B + b) * D, Wxh, delta, H, D);
            add_back(t ? dh - H : dh0 + b * H, Whh, delta, H, H);
        }
    }
    printf("{\"id\": %d, \"loss\": \"%a\", \"outputs\": {", id, L);
    print("", "y", 3, (int[]){T, B, O}, Y), printf("}, \"grads\": {");
    print("", "W_hh", 2, (int[]){H, H}, dWhh), print(", ", "W_xh", 2, (int[]){H, D}, dWxh);
    print(", ", "W_hy", 2, (int[]){O, H}, dWhy), print(", ", "b", 1, &H, db);
    print(", ", "x", 3, (int[]){T, B, D}, dX), print(", ", "h0", 2, (int[]){B, H}, dh0), printf("}}\n");
}

int main(void) {
    char *line = NULL;
    size_t size = 0;
    while (getline(&line, &size, stdin) > 0) {
        char *at = line;
        Value *request = parse(&at), *c = get(request, "case");
        int id = atoi(get(request, "id")->text);
        if (!is(c, "cell", "tanh_rnn")) printf("{\"id\": %d, \"declined\": \"another cell\"}\n", id);
        else if (get(c, "truncate")) printf("{\"id\": %d, \"declined\": \"no truncation\"}\n", id);
        else answer(id, c);
        fflush(stdout), memset(pool, 0, used), used = 0;
    }
}
