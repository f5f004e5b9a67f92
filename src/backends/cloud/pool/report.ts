/** The pool's report for `docker info` and `sockerless pool`. */
import type { MessageInitShape } from "@bufbuild/protobuf";

import type { GetPoolResponseSchema } from "../../../gen/sockerless/backend/v1/system_pb.ts";

export type PoolReport = MessageInitShape<typeof GetPoolResponseSchema>;

/** One line: `fixed: 2 of at most 5 wait, 1 of them not ready; 0.42 of 12 idle hours today`. */
export function inWords(report: PoolReport): string {
  const { mode = "", tasks = [], maxTasks = 0, hindrance = "" } = report;
  if (mode === "off") {
    return mode;
  }
  const unready = tasks.filter(({ ready }) => ready !== true).length;
  const waiting = `${tasks.length} of at most ${maxTasks} wait`;
  const parts = [
    unready === 0 ? waiting : `${waiting}, ${unready} of them not ready`,
    costInWords(report),
    ...(hindrance === "" ? [] : [hindrance]),
  ];
  return `${mode}: ${parts.join("; ")}`;
}

function costInWords({ idleHours = 0, cost = 0, maxIdleHours, maxCost, currency = "" }: PoolReport): string {
  const of = (value: string, limit: number | undefined): string =>
    limit === undefined ? value : `${value} of ${limit}`;
  const hours = `${of(idleHours.toFixed(2), maxIdleHours)} idle hours`;
  const money = currency === "" ? [] : [`${of(cost.toFixed(2), maxCost)} ${currency}`];
  return `${[hours, ...money].join(" and ")} today`;
}
