# One file per instruction set; only those files may use its instructions.
set_source_files_properties(src/kernels/isa_avx2.c PROPERTIES COMPILE_OPTIONS "$<$<STREQUAL:${CMAKE_SYSTEM_PROCESSOR},x86_64>:-mavx2;-mfma;-mf16c>")
set_source_files_properties(src/kernels/isa_avx512.c PROPERTIES COMPILE_OPTIONS "$<$<STREQUAL:${CMAKE_SYSTEM_PROCESSOR},x86_64>:-mavx512f;-mavx512bw;-mavx512vl;-mavx512dq;-mfma;-mf16c>")
set_source_files_properties(src/kernels/isa_avx512bf16.c PROPERTIES COMPILE_OPTIONS "$<$<STREQUAL:${CMAKE_SYSTEM_PROCESSOR},x86_64>:-mavx512f;-mavx512bw;-mavx512vl;-mavx512dq;-mavx512vbmi;-mavx512bf16;-mfma;-mf16c>")
set_source_files_properties(src/kernels/isa_neonbf16.c PROPERTIES COMPILE_OPTIONS "$<$<STREQUAL:${CMAKE_SYSTEM_PROCESSOR},aarch64>:-march=armv8.2-a+bf16>")

# The fuzzers do not multiply matrices, and clang takes minutes to instrument the unrolled tiles. gcc takes five minutes a
# file for the checks of every pointer, and 20 seconds without them: addresses, overflows and shifts are looked at.
file(GLOB GRAFT_ISA_FILES src/kernels/isa_*.c)
if(GRAFT_FUZZ)
  set_property(SOURCE ${GRAFT_ISA_FILES} APPEND PROPERTY COMPILE_OPTIONS -fno-sanitize=all)
elseif(GRAFT_SANITIZE MATCHES "undefined")
  set_property(SOURCE ${GRAFT_ISA_FILES} APPEND PROPERTY COMPILE_OPTIONS
               -fno-sanitize=alignment,null,object-size,pointer-overflow)
endif()
