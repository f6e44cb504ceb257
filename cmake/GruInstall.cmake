# cmake --install: headers, library, program and a package for find_package(gru).
include_guard(GLOBAL)
include(CMakePackageConfigHelpers)

set(package_dir "${CMAKE_INSTALL_LIBDIR}/cmake/gru")
install(TARGETS gru EXPORT gruTargets
        FILE_SET HEADERS DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}"
        FILE_SET generated_headers DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}")
if(TARGET gru_cli)
  install(TARGETS gru_cli)
endif()
install(EXPORT gruTargets NAMESPACE gru:: DESTINATION "${package_dir}")
configure_package_config_file("${PROJECT_SOURCE_DIR}/cmake/gruConfig.cmake.in" "${PROJECT_BINARY_DIR}/gruConfig.cmake"
                              INSTALL_DESTINATION "${package_dir}")
write_basic_package_version_file("${PROJECT_BINARY_DIR}/gruConfigVersion.cmake" COMPATIBILITY SameMinorVersion)
install(FILES "${PROJECT_BINARY_DIR}/gruConfig.cmake" "${PROJECT_BINARY_DIR}/gruConfigVersion.cmake"
        DESTINATION "${package_dir}")

get_property(note GLOBAL PROPERTY GRU_DEPS_NOTE)
if(note)
  install(CODE "message(STATUS \"Note: ${note}\")")
endif()
