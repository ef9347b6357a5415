<%doc>Philox4x32-10, counter-based random numbers (Salmon et al., 2011); the same bits as clnn/codegen/philox.py.</%doc>
<%def name="functions()">
#ifndef CLNN_PHILOX     // several kernels of one program may bring it
#define CLNN_PHILOX
// One of the four words of Philox4x32-10 as a uniform number in [0, 1) with 24 bits.
inline float clnn_uniform(uint seed, uint step, uint salt, uint index)
{
    uint4 c = (uint4)(index >> 2, step, salt, 0u);
    uint2 k = (uint2)(seed, 0u);
    for (int round = 0; round < 10; ++round) {
        const ulong p0 = (ulong)0xD2511F53u * c.x;
        const ulong p1 = (ulong)0xCD9E8D57u * c.z;
        c = (uint4)((uint)(p1 >> 32) ^ c.y ^ k.x, (uint)p1, (uint)(p0 >> 32) ^ c.w ^ k.y, (uint)p0);
        k += (uint2)(0x9E3779B9u, 0xBB67AE85u);
    }
    const uint word = (index & 3u) == 0u ? c.x : (index & 3u) == 1u ? c.y : (index & 3u) == 2u ? c.z : c.w;
    return (float)(word >> 8) * 5.9604644775390625e-8f;
}
#endif
</%def>
