/** Bounds of the connections between frontend and backend, which trust each other. */

/** Megabytes (Node's unit) of one connection's calls under way. Beyond it Node resets calls, answered ones too. */
export const maxSessionMemory = 1_000;

/**
 * Window in bytes for all calls of a connection together. By default it is 64 KiB: a crowd of long calls would take a
 * turn of the event loop for each of these, and the short calls behind them too.
 */
export const sessionWindow = 64 * 1024 * 1024;
