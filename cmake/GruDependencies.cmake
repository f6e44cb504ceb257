# Dependency provider: what happens when find_package() meets nothing installed.
include_guard(GLOBAL)
set(GRU_DEPS_DIR "${CMAKE_SOURCE_DIR}/.deps" CACHE PATH "Where dependencies that are not installed are kept")
list(APPEND CMAKE_PREFIX_PATH "${GRU_DEPS_DIR}/debian/usr")
