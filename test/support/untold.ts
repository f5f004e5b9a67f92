/** A launch's progress that nobody is told. */
import type { LaunchProgress } from "../../src/backends/driver/launches.ts";

export const untold: LaunchProgress = {
  reached: () => Promise.resolve(),
  waits: () => {},
  goesOn: () => {},
  phase: () => {},
};
