/** Metrics of a daemon, read by raw HTTP on a unix socket. */
import { request } from "node:http";

/** An answer of `--metrics-addr`. */
export interface MetricsAnswer {
  readonly status: number;
  readonly type: string;
  readonly text: string;
}

/** Asks a path of `--metrics-addr`. */
export async function askMetrics(socketPath: string, path: string): Promise<MetricsAnswer> {
  const { promise, resolve, reject } = Promise.withResolvers<MetricsAnswer>();
  request({ socketPath, path, agent: false }, (incoming) => {
    let text = "";
    incoming.setEncoding("utf8").on("data", (chunk: string) => {
      text += chunk;
    });
    incoming.on("end", () =>
      resolve({ status: incoming.statusCode ?? 0, type: incoming.headers["content-type"] ?? "", text }),
    );
  })
    .on("error", reject)
    .end();
  return await promise;
}

/** The samples of a metric that have all these labels, as they are written. */
export function seriesOf(
  text: string,
  name: string,
  labels: Readonly<Record<string, string>> = {},
): readonly string[] {
  const wanted = Object.entries(labels).map(([key, value]) => `${key}="${value}"`);
  const samples = text.split("\n").filter((line) => new RegExp(`^${name}[{ ]`).test(line));
  return samples.filter((line) => wanted.every((label) => line.includes(label)));
}

/** The sum of the samples of a metric that have all these labels. */
export function sumOf(text: string, name: string, labels: Readonly<Record<string, string>> = {}): number {
  return seriesOf(text, name, labels).reduce(
    (sum, line) => sum + Number(line.slice(line.lastIndexOf(" "))),
    0,
  );
}
