// What all .cu files begin with: the kind of number that arrays hold, and the kind that sums have.
//
// A file is compiled once for each kind, with -DNUMBER=float, double, Half or Bfloat16. Arrays hold
// NUMBERs; what is computed, and what is kept for each channel, is a Sum. Halves are widened when
// they are read and rounded to the nearest, ties to even, when they are written; nothing is added
// up in them.
//
// Kernels take pointers, integers of 64 bits (Index) and doubles, and nothing else: these are what
// Python's numbers become.

typedef long long Index;

struct Half {
    unsigned short bits;  // IEEE binary16: 1 sign, 5 exponent, 10 mantissa
};
struct Bfloat16 {
    unsigned short bits;  // the upper half of a float: 1 sign, 8 exponent, 7 mantissa
};

template <typename Number>
struct SumOf {
    typedef float type;
};
template <>
struct SumOf<double> {
    typedef double type;
};

typedef NUMBER Number;
typedef SumOf<Number>::type Sum;

__device__ inline double get(double x) { return x; }
__device__ inline float get(float x) { return x; }
__device__ inline void put(double &place, double x) { place = x; }
__device__ inline void put(float &place, float x) { place = x; }

__device__ inline float get(Bfloat16 x) { return __uint_as_float((unsigned)x.bits << 16); }

__device__ inline void put(Bfloat16 &place, float x) {
    unsigned bits = __float_as_uint(x);
    // Half of the last digit kept, less one where that digit is even: a tie then stays below.
    unsigned rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    place.bits = x == x ? rounded : bits >> 16 | 0x40;  // NaN stays NaN: rounding could carry it on
}

#ifdef __CUDACC__
__device__ inline float widened_half(unsigned short bits) {
    float result;
    asm("cvt.f32.f16 %0, %1;" : "=f"(result) : "h"(bits));
    return result;
}
__device__ inline unsigned short rounded_half(float x) {
    unsigned short result;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(result) : "f"(x));
    return result;
}
#endif  // the emulator, which the tests run kernels with, has no such instructions but these two

__device__ inline float get(Half x) { return widened_half(x.bits); }
__device__ inline void put(Half &place, float x) { place.bits = rounded_half(x); }

// Where the search for the largest number begins.
__device__ inline float minus_infinity() { return __uint_as_float(0xff800000); }

// The thread's number among all threads of the grid, and how many there are: for loops over arrays
// of any length.
__device__ inline Index first() { return (Index)blockIdx.x * blockDim.x + threadIdx.x; }
__device__ inline Index step() { return (Index)gridDim.x * blockDim.x; }

// Neighbouring numbers that a thread moves in one piece. Packs of 16 bytes are the widest that a
// thread can move, and take a fraction of the instructions; arrays have to allow for them: see
// packs.py.
template <int COUNT>
struct alignas(COUNT * sizeof(Number)) Pack {
    Number numbers[COUNT];
};
enum { WIDE = 16 / sizeof(Number) };
