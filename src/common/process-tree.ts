/** The processes of a daemon. */
import { readFileSync } from "node:fs";

import { commandLineOf } from "./command-line.ts";

/** Programs of the daemon that are told apart; all others are `other`. */
const programs = new Map([
  ["sockerless", "supervisor"],
  ["sockerless-frontend", "frontend"],
  ["sockerless-backend", "backend"],
  ["sockerless-builder", "builder"],
  ["sockerless-agent host", "host"],
  ["sockerless-agent forwarder", "forwarder"],
]);

/** A process of the daemon. */
export interface DaemonMember {
  readonly pid: number;
  /** `supervisor`, `frontend`, `backend`, `builder`, `host`, `forwarder`, `other`. */
  readonly program: string;
  /** Resident memory. */
  readonly bytes: number;
}

/** A process and its descendants; nothing of those that have ended, or where there is no /proc. */
export function processTree(pid: number): readonly DaemonMember[] {
  try {
    const [command = "", mode = ""] = commandLineOf(pid).split("\0");
    const name = command.trim().replace(/^.*\//, "");
    const program = programs.get(name) ?? programs.get(`${name} ${mode}`) ?? "other";
    const kilobytes = Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? 0);
    const children = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim().split(" ");
    return [
      { pid, program, bytes: kilobytes * 1024 },
      ...children.filter((child) => child !== "").flatMap((child) => processTree(Number(child))),
    ];
  } catch {
    return [];
  }
}
