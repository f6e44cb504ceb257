// SPDX-License-Identifier: Apache-2.0
// To be preloaded: functions of OpenMP that know nothing of the regions that libgomp runs, as in a process whose libraries bring
// another runtime, or stubs. Every thread takes itself for the only one.
extern "C" int omp_get_thread_num() { return 0; }
extern "C" int omp_get_num_threads() { return 1; }
extern "C" int omp_get_level() { return 0; }
