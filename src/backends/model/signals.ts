/** Signals in Docker's notation. */
import { invalid } from "../../common/errors.ts";

/** Linux signal numbers (x86, ARM and all other supported architectures). */
const numbers: Readonly<Record<string, number>> = {
  ABRT: 6,
  ALRM: 14,
  BUS: 7,
  CHLD: 17,
  CLD: 17,
  CONT: 18,
  FPE: 8,
  HUP: 1,
  ILL: 4,
  INT: 2,
  IO: 29,
  IOT: 6,
  KILL: 9,
  PIPE: 13,
  POLL: 29,
  PROF: 27,
  PWR: 30,
  QUIT: 3,
  SEGV: 11,
  STKFLT: 16,
  STOP: 19,
  SYS: 31,
  TERM: 15,
  TRAP: 5,
  TSTP: 20,
  TTIN: 21,
  TTOU: 22,
  URG: 23,
  USR1: 10,
  USR2: 12,
  VTALRM: 26,
  WINCH: 28,
  XCPU: 24,
  XFSZ: 25,
};

const realTimeMin = 34;
const realTimeMax = 64;

/** SIGKILL's number. */
export const sigkill = 9;

/** SIGTERM's number; the default stop signal. */
export const sigterm = 15;

/**
 * Parses a signal: a number, or a name in any case with or without `SIG`: `9`, `kill`, `SIGRTMIN+1`.
 *
 * @throws invalid
 */
export function parseSignal(text: string): number {
  const number = /^\d+$/.test(text) ? Number(text) : numberOfName(text);
  if (number === undefined || number < 1) {
    throw invalid(`invalid signal: ${text}`);
  }
  if (number > realTimeMax) {
    throw invalid(`the linux daemon does not support signal ${text}`);
  }
  return number;
}

/** The signal with which a container stops: SIGTERM where it has none, or an image's that is none, as in dockerd. */
export function stopSignalOf({ stopSignal }: { readonly stopSignal: string }): number {
  try {
    return stopSignal === "" ? sigterm : parseSignal(stopSignal);
  } catch {
    return sigterm;
  }
}

function numberOfName(text: string): number | undefined {
  const name = text.toUpperCase().replace(/^SIG/, "");
  const known = numbers[name];
  if (known !== undefined) {
    return known;
  }
  const realTime = /^RT(MIN|MAX)(?:([+-])(\d{1,2}))?$/.exec(name);
  if (realTime === null) {
    return undefined;
  }
  const offset = Number(realTime[3] ?? 0);
  if (realTime[1] === "MIN" && realTime[2] !== "-" && offset <= realTimeMax - realTimeMin) {
    return realTimeMin + offset;
  }
  if (realTime[1] === "MAX" && realTime[2] !== "+" && offset <= realTimeMax - realTimeMin) {
    return realTimeMax - offset;
  }
  return undefined;
}
