/** Runs once in each test process, before its first file. */
export {};
