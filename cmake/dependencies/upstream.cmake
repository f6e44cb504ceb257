# SPDX-License-Identifier: Apache-2.0
# Release archives: URL, SHA-256 and options. Two independent public sources agree on each hash.
set(upstream_Kokkos_url https://github.com/kokkos/kokkos/releases/download/5.2.2/kokkos-5.2.2.tar.gz)
set(upstream_Kokkos_sha256 d6557aaef39302282a15f9c770433d1fcdf4e961dfd6d9ed726b9d0d0f546b9f)
set(upstream_Kokkos_options -DKokkos_ENABLE_SERIAL=ON -DKokkos_ENABLE_OPENMP=ON -DKokkos_ARCH_NATIVE=ON)

set(upstream_Eigen3_url https://gitlab.com/libeigen/eigen/-/archive/3.4.0/eigen-3.4.0.tar.gz)
set(upstream_Eigen3_sha256 8586084f71f9bde545ee7fa6d00288b264a2b7ac3607b974e54d13e7162c1c72)
set(upstream_Eigen3_options -DBUILD_TESTING=OFF -DEIGEN_BUILD_DOC=OFF -DEIGEN_BUILD_PKGCONFIG=OFF)

set(upstream_fmt_url https://github.com/fmtlib/fmt/archive/refs/tags/10.2.1.tar.gz)
set(upstream_fmt_sha256 1250e4cc58bf06ee631567523f48848dc4596133e163f02615c97f78bab6c811)
set(upstream_fmt_options -DFMT_TEST=OFF -DFMT_DOC=OFF)

set(upstream_nlohmann_json_url https://github.com/nlohmann/json/archive/refs/tags/v3.11.3.tar.gz)
set(upstream_nlohmann_json_sha256 0d8ef5af7f9794e3263480193c491549b2ba6cc74bb018906202ada498a79406)
set(upstream_nlohmann_json_options -DJSON_BuildTests=OFF)

set(upstream_CLI11_url https://github.com/CLIUtils/CLI11/archive/refs/tags/v2.4.2.tar.gz)
set(upstream_CLI11_sha256 f2d893a65c3b1324c50d4e682c0cdc021dd0477ae2c048544f39eed6654b699a)
set(upstream_CLI11_options -DCLI11_BUILD_TESTS=OFF -DCLI11_BUILD_EXAMPLES=OFF -DCLI11_BUILD_DOCS=OFF)

set(upstream_doctest_url https://github.com/doctest/doctest/archive/refs/tags/v2.4.11.tar.gz)
set(upstream_doctest_sha256 632ed2c05a7f53fa961381497bf8069093f0d6628c5f26286161fbd32a560186)
set(upstream_doctest_options -DDOCTEST_WITH_TESTS=OFF -DCMAKE_POLICY_VERSION_MINIMUM=3.5)

set(upstream_benchmark_url https://github.com/google/benchmark/archive/refs/tags/v1.8.3.tar.gz)
set(upstream_benchmark_sha256 6bc180a57d23d4d9515519f92b0c83d61b05b5bab188961f36ac7b06b0d9e9ce)
set(upstream_benchmark_options -DBENCHMARK_ENABLE_TESTING=OFF -DBENCHMARK_ENABLE_WERROR=OFF)
