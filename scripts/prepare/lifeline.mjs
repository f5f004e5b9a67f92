/** Ending with the process that has asked for the work. */

/**
 * Ends this process and all that it has started, once standard input ends: its other end is closed by the asking
 * process, or by that one's death. This process must lead a process group of its own. SIGINT, as Go's command deletes
 * its temporary files then.
 */
export function endWithStandardInput() {
  process.stdin.on("close", () => process.kill(0, "SIGINT")).on("error", () => {});
  process.stdin.resume();
  process.stdin.unref();
}
