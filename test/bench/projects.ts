/** A Node and a Python project, whose images are built cold, after a change of the source, and unchanged. */
import { randomUUID } from "node:crypto";
import { mkdir, realpath, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";

import { busyboxImage, dockerArchive } from "../support/images.ts";
import { layerOf } from "../support/machine-programs.ts";

const dependencies = 2_000;
const sources = 300;

/** Difference from the build before. */
export type Change = "all" | "source" | "nothing";

/** The files of a project, by their paths, of which the first `RUN` reads the dependencies and the second the source. */
interface Project {
  readonly dockerfile: string;
  readonly dependencies: string;
  /** Content of the dependencies' file. */
  readonly list: (word: string) => string;
  readonly extension: string;
  readonly source: (at: number, word: string) => string;
  readonly others: Readonly<Record<string, string>>;
}

const node = process.execPath;
const python = await realpath("/usr/bin/python3");

/** No step has a network: dependencies are written as their installation would write them. */
export const projects: Readonly<Record<"Node" | "Python", Project>> = {
  Node: {
    dockerfile: `FROM languages
WORKDIR /project
COPY package.json install.mjs ./
RUN ${node} install.mjs
COPY . .
RUN ${node} build.mjs
CMD ["${node}", "bundle.mjs"]
`,
    dependencies: "package.json",
    list: (word) => JSON.stringify({ name: "project", description: word }),
    extension: "mjs",
    source: (at, word) => `export const value${at} = ${JSON.stringify(`${word} ${at}`)};\n`,
    others: {
      "install.mjs": `import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
const { description } = JSON.parse(readFileSync("package.json", "utf8"));
for (let n = 0; n < ${dependencies}; n++) {
  const folder = \`node_modules/package\${n}\`;
  mkdirSync(folder, { recursive: true });
  writeFileSync(\`\${folder}/index.js\`, \`export default "\${description} \${n}";\\n\`.repeat(40));
}
`,
      "build.mjs": `import { globSync, readFileSync, writeFileSync } from "node:fs";
writeFileSync("bundle.mjs", globSync("src/*.mjs").toSorted().map((file) => readFileSync(file, "utf8")).join(""));
await import("./bundle.mjs");
`,
    },
  },
  Python: {
    dockerfile: `FROM languages
WORKDIR /project
COPY requirements.txt install.py ./
RUN ${python} install.py
COPY . .
RUN ${python} -m compileall -q src
CMD ["${python}", "src/module0.py"]
`,
    dependencies: "requirements.txt",
    list: (word) => `# ${word}\n`,
    extension: "py",
    source: (at, word) => `VALUE_${at} = ${JSON.stringify(`${word} ${at}`)}\n`,
    others: {
      "install.py": `import compileall, os
word = open("requirements.txt").read().strip()
for n in range(${dependencies}):
    os.makedirs(f"packages/package{n}", exist_ok=True)
    with open(f"packages/package{n}/__init__.py", "w") as file:
        file.write(f"VALUE = '{word} {n}'\\n" * 40)
`,
    },
  },
};

/** Writes a project into a directory. */
export async function writeProject(directory: string, project: Project, change: Change): Promise<void> {
  const word = (isNew: boolean): string => (isNew ? randomUUID() : "unchanged");
  const files = new Map<string, string>([
    ["Dockerfile", project.dockerfile],
    [project.dependencies, project.list(word(change === "all"))],
    ...Object.entries(project.others),
    ...Array.from({ length: sources }, (_, at) => {
      const isChanged = change === "all" || (change === "source" && at === 0);
      return [`src/module${at}.${project.extension}`, project.source(at, word(isChanged))] as const;
    }),
  ]);
  for (const [name, content] of files) {
    await mkdir(dirname(join(directory, name)), { recursive: true });
    await writeFile(join(directory, name), content);
  }
}

/** An archive of the image `languages`: busybox with this machine's Node and Python. */
export async function languagesArchive(): Promise<Buffer> {
  const busybox = await busyboxImage();
  const programs = await layerOf(node, python, `${dirname(dirname(python))}/lib/python3.*/**/*.{py,so}`);
  return await dockerArchive([
    { image: { ...busybox, layers: [...busybox.layers, programs] }, tags: ["languages:latest"] },
  ]);
}
