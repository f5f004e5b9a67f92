/**
 * `npm run build && node dist/test/recording/record.js`: runs commands on a daemon of their own and draws what they printed,
 * in the time that they took, as docs/recording.svg.
 */
import { spawnSync } from "node:child_process";
import { writeFile } from "node:fs/promises";

import { Daemon } from "../support/daemon.ts";
import { freePort } from "../support/free-port.ts";
import { busyboxArchiveFile } from "../support/images.ts";

const port = await freePort();
const commands = [
  "docker run --rm sockerless/hello | head -2",
  `docker run -d --name web -p ${port}:80 busybox httpd -f -h /etc`,
  "docker exec web ps",
  `curl -s localhost:${port}/hostname`,
  "kill -9 $FRONTEND $BACKEND    # containers do not mind",
  "docker exec web echo still here",
  "docker rm -f web",
];

/** A line of the recording, and when it appears, in seconds. */
interface Line {
  readonly text: string;
  readonly at: number;
}

/** Time in which a reader finds the next command. */
const pauseSeconds = 0.8;
const columns = 80;
const [lineHeight, charWidth, margin] = [19, 8.1, 14];

await using daemon = await Daemon.start();
await daemon.ok("load", "-i", await busyboxArchiveFile());
const [frontend, backend] = processesOf(daemon.pid);
const lines: Line[] = [];
let now = 0;
for (const command of commands) {
  lines.push({ text: `$ ${command}`, at: now });
  const startedAt = performance.now();
  const { stdout, status, stderr } = spawnSync("bash", ["-c", command], {
    env: { ...daemon.clientEnv, FRONTEND: frontend, BACKEND: backend },
    encoding: "utf8",
  });
  now += (performance.now() - startedAt) / 1000;
  if (status !== 0) {
    throw new Error(`${command}: ${stderr}`);
  }
  const printed = stdout.trimEnd().split("\n");
  lines.push(...printed.filter((text) => text !== "").map((text) => ({ text, at: now })));
  now += pauseSeconds;
}
await writeFile("docs/recording.svg", draw(lines));

/** Process IDs of the frontend and the backend of a supervisor. @throws Error where one is not there */
function processesOf(supervisor: number): [frontend: string, backend: string] {
  const { stdout } = spawnSync("ps", ["--ppid", String(supervisor), "-o", "pid=,args="], {
    encoding: "utf8",
  });
  const idOf = (name: string): string => {
    const id = new RegExp(`^ *(\\d+) .*${name}`, "m").exec(stdout)?.[1];
    if (id === undefined) {
      throw new Error(`no ${name} among:\n${stdout}`);
    }
    return id;
  };
  return [idOf("frontend"), idOf("backend")];
}

/** Draws the lines one after the other; all at once for readers that want no motion. */
function draw(shown: readonly Line[]): string {
  const [width, height] = [columns * charWidth + 2 * margin, shown.length * lineHeight + 2 * margin];
  const texts = shown.map(({ text, at }, index) => {
    const y = margin + (index + 0.75) * lineHeight;
    const kind = text.startsWith("$ ") ? ' class="command"' : "";
    return `<text x="${margin}" y="${y}"${kind} style="animation-delay:${at.toFixed(2)}s">${escaped(text.slice(0, columns))}</text>`;
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" role="img" aria-label="A recorded terminal">
<!-- Made by test/recording/record.ts from a real run. -->
<style>
text { font: 13.5px ui-monospace, monospace; fill: #cbd5e1; white-space: pre; animation: show 0.01s both }
.command { fill: #7dd3fc }
@keyframes show { from { opacity: 0 } to { opacity: 1 } }
@media (prefers-reduced-motion) { text { animation: none } }
</style>
<rect width="${width}" height="${height}" rx="8" fill="#0f172a"/>
${texts.join("\n")}
</svg>
`;
}

function escaped(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}
