# SPDX-License-Identifier: Apache-2.0
# cmake --install: headers, library, program and a package for find_package(gru). A Kokkos that was fetched privately is
# installed along with it, and so is the C library that it needs, so that the prefix runs by itself, also when it is moved.
include_guard(GLOBAL)
include(CMakePackageConfigHelpers)

set(package_dir "${CMAKE_INSTALL_LIBDIR}/cmake/gru")
set(private_dir "${CMAKE_INSTALL_LIBDIR}/gru/private")  # what was fetched and nobody else may use

# gru_install_private_kokkos(): installs the Kokkos of GRU_DEPS_DIR below private_dir. Sets in the caller's scope
# kokkos_package (its CMake package, relative to the prefix; empty if Kokkos is an installed one), kokkos_libraries and
# kokkos_loader (its shared libraries and the dynamic loader, relative to the prefix; empty if not needed).
function(gru_install_private_kokkos)
  set(kokkos_package "")
  set(kokkos_libraries "")
  set(kokkos_loader "")
  if(DEFINED GRU_DEPS_DIR)
    cmake_path(IS_PREFIX GRU_DEPS_DIR "${Kokkos_DIR}" NORMALIZE is_private)
  endif()
  if(is_private)
    cmake_path(RELATIVE_PATH Kokkos_DIR BASE_DIRECTORY "${GRU_DEPS_DIR}" OUTPUT_VARIABLE place)
    set(kokkos_package "${private_dir}/${place}")
    if(place MATCHES "^debian/")
      string(REGEX REPLACE "/cmake/Kokkos$" "" libraries "${place}")
      set(kokkos_libraries "${private_dir}/${libraries}")
      install(DIRECTORY "${GRU_DEPS_DIR}/debian/usr/include/kokkos" DESTINATION "${private_dir}/debian/usr/include")
      install(DIRECTORY "${GRU_DEPS_DIR}/${libraries}/" DESTINATION "${kokkos_libraries}"
              FILES_MATCHING PATTERN "libkokkos*" PATTERN "cmake/Kokkos/*" PATTERN "cmake/fmt" EXCLUDE PATTERN pkgconfig EXCLUDE)
      file(GLOB loader "${GRU_DEPS_DIR}/debian/runtime/ld-*.so*")
      if(loader)
        cmake_path(GET loader FILENAME name)
        set(kokkos_loader "${private_dir}/debian/runtime/${name}")
        install(DIRECTORY "${GRU_DEPS_DIR}/debian/runtime" DESTINATION "${private_dir}/debian" USE_SOURCE_PERMISSIONS)
      endif()
    else()
      string(REGEX MATCH "^upstream/[^/]+" folder "${place}")
      install(DIRECTORY "${GRU_DEPS_DIR}/${folder}" DESTINATION "${private_dir}/upstream" USE_SOURCE_PERMISSIONS)
    endif()
  endif()
  set(kokkos_package "${kokkos_package}" PARENT_SCOPE)
  set(kokkos_libraries "${kokkos_libraries}" PARENT_SCOPE)
  set(kokkos_loader "${kokkos_loader}" PARENT_SCOPE)
endfunction()

# gru_install_program(target): into bin. A program that needs the private C library names its loader by an absolute path, which
# moves with nobody: it goes to libexec, and bin gets a launcher that finds the loader beside itself.
function(gru_install_program target)
  get_target_property(name ${target} OUTPUT_NAME)
  set(folder "${CMAKE_INSTALL_BINDIR}")
  if(kokkos_loader)
    set(folder "${CMAKE_INSTALL_LIBEXECDIR}/gru")
    foreach(path IN ITEMS kokkos_loader kokkos_libraries folder)
      cmake_path(RELATIVE_PATH ${path} BASE_DIRECTORY "${CMAKE_INSTALL_BINDIR}" OUTPUT_VARIABLE from_bin_${path})
    endforeach()
    cmake_path(GET from_bin_kokkos_loader PARENT_PATH from_bin_runtime)
    configure_file("${PROJECT_SOURCE_DIR}/cmake/launcher.sh.in" "${PROJECT_BINARY_DIR}/launcher/${name}" @ONLY)
    install(PROGRAMS "${PROJECT_BINARY_DIR}/launcher/${name}" DESTINATION "${CMAKE_INSTALL_BINDIR}")
  endif()
  install(TARGETS ${target} RUNTIME DESTINATION "${folder}")
  if(kokkos_libraries)
    # Instead of the folders of this build, which the linker was told by Kokkos' package.
    cmake_path(RELATIVE_PATH kokkos_libraries BASE_DIRECTORY "${folder}" OUTPUT_VARIABLE libraries)
    install(CODE "file(RPATH_SET FILE \"\$ENV{DESTDIR}\${CMAKE_INSTALL_PREFIX}/${folder}/${name}\" NEW_RPATH \"\\\$ORIGIN/${libraries}\")")
  endif()
endfunction()

gru_install_private_kokkos()
install(TARGETS gru gru_runtime EXPORT gruTargets
        FILE_SET HEADERS DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}"
        FILE_SET generated_headers DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}")
if(TARGET gru_cli)
  gru_install_program(gru_cli)
endif()
install(EXPORT gruTargets NAMESPACE gru:: DESTINATION "${package_dir}")
set(kokkos_dir "")
if(NOT kokkos_package)
  set(kokkos_dir "${Kokkos_DIR}")
endif()
configure_package_config_file("${PROJECT_SOURCE_DIR}/cmake/gruConfig.cmake.in" "${PROJECT_BINARY_DIR}/gruConfig.cmake"
                              INSTALL_DESTINATION "${package_dir}")
write_basic_package_version_file("${PROJECT_BINARY_DIR}/gruConfigVersion.cmake" COMPATIBILITY SameMinorVersion)
install(FILES "${PROJECT_BINARY_DIR}/gruConfig.cmake" "${PROJECT_BINARY_DIR}/gruConfigVersion.cmake"
        DESTINATION "${package_dir}")
