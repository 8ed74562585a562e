// Letterboxing of decoded pictures that stay on the GPU: one launch per batch, one job per row, one
// thread per pixel of the network's input. `centernetd.cuda.letterbox` describes the arguments;
// after a change, run scripts/make_kernels.py.

struct Job {
    unsigned long long luma, chroma;  // device addresses of the two planes
    int luma_pitch, chroma_pitch;     // bytes from one line to the next
    int width, height;                // of the decoded picture, in pixels
    float map[6];                     // from a pixel of the input to one of the decoded picture
    float black, gain;                // luma: gain * (y - black)
    float r_v, g_u, g_v, b_u;         // chroma: its share of each colour
    int wide;                         // samples of 16 bits, significant at the top, instead of 8
    int shown;                        // else the row stays as it is
};

__device__ float sample(unsigned long long plane, int wide, int index) {
    if (wide) return ((const unsigned short*)plane)[index] * (1.0f / 256.0f);
    return ((const unsigned char*)plane)[index];
}

__device__ float level(float value) { return fminf(fmaxf(value, 0.0f), 255.0f); }

extern "C" __global__ void letterbox(const Job* jobs, unsigned char* rows, int height, int width) {
    int x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y * blockDim.y + threadIdx.y;
    if (x >= width || y >= height) return;
    const Job job = jobs[blockIdx.z];
    if (!job.shown) return;
    float from_x = job.map[0] * x + job.map[1] * y + job.map[2];
    float from_y = job.map[3] * x + job.map[4] * y + job.map[5];
    float b = 0.0f, g = 0.0f, r = 0.0f;
    if (from_x > -1.0f && from_y > -1.0f && from_x < job.width && from_y < job.height) {
        int left = (int)floorf(from_x), top = (int)floorf(from_y);
        float right_share = from_x - left, lower_share = from_y - top;
        for (int corner = 0; corner < 4; corner++) {
            int px = left + (corner & 1), py = top + (corner >> 1);
            if (px < 0 || py < 0 || px >= job.width || py >= job.height) continue;  // border: 0
            float share = ((corner & 1) ? right_share : 1.0f - right_share) *
                          ((corner >> 1) ? lower_share : 1.0f - lower_share);
            unsigned long long line = job.luma + (unsigned long long)py * job.luma_pitch;
            unsigned long long pairs = job.chroma + (unsigned long long)(py >> 1) * job.chroma_pitch;
            float luma = job.gain * (sample(line, job.wide, px) - job.black);
            float u = sample(pairs, job.wide, px & ~1) - 128.0f;
            float v = sample(pairs, job.wide, (px & ~1) + 1) - 128.0f;
            b += share * level(luma + job.b_u * u);
            g += share * level(luma + job.g_u * u + job.g_v * v);
            r += share * level(luma + job.r_v * v);
        }
    }
    unsigned char* pixel = rows + (((size_t)blockIdx.z * height + y) * width + x) * 3;
    pixel[0] = (unsigned char)(b + 0.5f);
    pixel[1] = (unsigned char)(g + 0.5f);
    pixel[2] = (unsigned char)(r + 0.5f);
}
