# SPDX-License-Identifier: Apache-2.0
# Which Python the module is made for, where nanobind lies, and how a Python that can load the module is started.
# Sets gru_python_command, a list.
include_guard(GLOBAL)
find_package(Python 3.10 REQUIRED COMPONENTS Interpreter Development.Module OPTIONAL_COMPONENTS Development.SABIModule)

# Debian's Kokkos may need a newer C library than this machine's: then only a Python that is started with the private
# runtime can load the module.
set(gru_python_runtime "")
if(DEFINED GRU_DEPS_DIR)
  cmake_path(IS_PREFIX GRU_DEPS_DIR "${Kokkos_DIR}" NORMALIZE private_kokkos)
  file(GLOB loader "${GRU_DEPS_DIR}/debian/runtime/ld-*.so*")
  if(private_kokkos AND loader AND Kokkos_DIR MATCHES "/debian/")
    set(gru_python_runtime "${loader}" --library-path "${GRU_DEPS_DIR}/debian/runtime")
  endif()
endif()
if(SKBUILD AND gru_python_runtime)
  message(FATAL_ERROR " An ordinary Python cannot load this Kokkos, which needs a newer C library than this machine's: name a Kokkos built here by pip install . -C cmake.define.Kokkos_ROOT=<prefix>, or use the Python of cmake --workflow --preset python")
endif()

# A virtual environment beside the other private dependencies serves builds; a wheel's build has its own.
set(gru_python_program "${Python_EXECUTABLE}")
if(NOT SKBUILD)
  execute_process(COMMAND "${Python_EXECUTABLE}" -c "import nanobind, numpy, pytest" RESULT_VARIABLE missing ERROR_QUIET)
  if(missing)
    set(environment "${GRU_DEPS_DIR}/python-${Python_VERSION}")
    set(gru_python_program "${environment}/bin/python3")
    if(NOT EXISTS "${environment}/complete")
      message(STATUS "Making ${environment} with nanobind, NumPy and pytest")
      execute_process(COMMAND "${Python_EXECUTABLE}" -m venv "${environment}" RESULT_VARIABLE status OUTPUT_QUIET)
      if(status EQUAL 0)
        execute_process(COMMAND "${gru_python_program}" -m pip install --quiet nanobind>=2.4 numpy pytest
                        RESULT_VARIABLE status)
      endif()
      if(NOT status EQUAL 0)
        message(FATAL_ERROR " The Python module needs nanobind, NumPy and pytest, and pip could not get them for ${Python_EXECUTABLE}: install them, or set GRU_BUILD_PYTHON=OFF")
      endif()
      file(TOUCH "${environment}/complete")
    endif()
  endif()
endif()
set(gru_python_command ${gru_python_runtime} "${gru_python_program}")

execute_process(COMMAND "${gru_python_program}" -m nanobind --cmake_dir OUTPUT_VARIABLE nanobind_ROOT
                OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
find_package(nanobind CONFIG REQUIRED PATHS "${nanobind_ROOT}" NO_DEFAULT_PATH)
