/** A bound of the connections between frontend and backend, which trust each other. */

/** Megabytes (Node's unit) of one connection's calls under way. Beyond it Node resets calls, answered ones too. */
export const maxSessionMemory = 1_000;
