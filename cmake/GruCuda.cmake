# SPDX-License-Identifier: Apache-2.0
# The fused CUDA kernels: plain CUDA C++ beside whatever Kokkos was found, built for a list of architectures, with the
# CUDA runtime linked statically, so that a binary starts on a machine without a driver. Included at file scope, because
# a language can't be enabled inside a function.
include_guard(GLOBAL)
set(GRU_CUDA_ARCHITECTURES "80;86;89;90a;120" CACHE STRING "Compute capabilities to compile for (80 ... 90a ...)")
option(GRU_CUDA_CUBLASLT "Make the input projections with cuBLASLt, a shared library of the CUDA toolkit" ON)
option(GRU_CUDA_PTX_ONLY "Compile to PTX alone, which the driver translates for the device it finds" OFF)

# Machine code for each architecture, and PTX of the last one for devices that come after it; architecture-specific PTX
# (90a) would serve nobody else. CMake 3.25 does not take 90a, so the flags are ours.
set(CMAKE_CUDA_ARCHITECTURES OFF)
set(gru_cuda_flags "")
foreach(architecture IN LISTS GRU_CUDA_ARCHITECTURES)
  set(gru_cuda_last ${architecture})
  if(GRU_CUDA_PTX_ONLY)
    list(APPEND gru_cuda_flags --generate-code=arch=compute_${architecture},code=compute_${architecture})
  else()
    list(APPEND gru_cuda_flags --generate-code=arch=compute_${architecture},code=sm_${architecture})
  endif()
endforeach()
if(gru_cuda_last MATCHES "^[0-9]+$" AND NOT GRU_CUDA_PTX_ONLY)
  list(APPEND gru_cuda_flags --generate-code=arch=compute_${gru_cuda_last},code=compute_${gru_cuda_last})
endif()

if(NOT CMAKE_CUDA_COMPILER)
  find_program(GRU_NVCC nvcc HINTS ENV CUDACXX PATHS /usr/local/cuda/bin DOC "CUDA compiler")
  if(NOT GRU_NVCC)
    message(FATAL_ERROR " GRU_ENABLE_CUDA is ON, but there is no nvcc on PATH, in $CUDACXX or in /usr/local/cuda/bin. "
                        "Install the CUDA toolkit (12.3 or later), name its nvcc in CUDACXX, or set GRU_ENABLE_CUDA=OFF.")
  endif()
  set(CMAKE_CUDA_COMPILER "${GRU_NVCC}")
endif()
enable_language(CUDA)
find_package(CUDAToolkit 12.3 REQUIRED)
if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)  # CMake 3.25.1 has no flag for CUDA C++20, though nvcc has it
  set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION "-std=c++20")
  set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION "-std=c++20")
endif()

# For every target with .cu files.
function(gru_enable_cuda target)
  set_target_properties(${target} PROPERTIES CUDA_STANDARD 20 CUDA_STANDARD_REQUIRED ON CUDA_EXTENSIONS OFF
                                             CUDA_ARCHITECTURES OFF CUDA_RUNTIME_LIBRARY Static)
  target_compile_options(${target} PRIVATE
    "$<$<COMPILE_LANGUAGE:CUDA>:${gru_cuda_flags};-Xcompiler=-Wall,-Wextra;-lineinfo>"
    $<$<AND:$<COMPILE_LANGUAGE:CUDA>,$<BOOL:${GRU_WARNINGS_AS_ERRORS}>>:--Werror=all-warnings>)
  target_link_libraries(${target} PUBLIC CUDA::cudart_static)
  if(GRU_CUDA_CUBLASLT)
    if(NOT TARGET CUDA::cublasLt)
      message(FATAL_ERROR " GRU_CUDA_CUBLASLT is ON, but this CUDA toolkit has no libcublasLt with its headers. Install it "
                          "(NVIDIA's package libcublas-dev), or set GRU_CUDA_CUBLASLT=OFF.")
    endif()
    target_compile_definitions(${target} PRIVATE GRU_CUDA_CUBLASLT)
    target_link_libraries(${target} PRIVATE CUDA::cublasLt)
  endif()
endfunction()
