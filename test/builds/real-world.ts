/** Dockerfiles as projects have them; what they would ask of a package registry is in their context. */
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { gzipSync } from "node:zlib";

import { runCommand } from "../support/command.ts";
import { type TarEntry, tarOf } from "../support/tar.ts";
import { type BuildCase, directory, file } from "./dockerfiles.ts";

/** The bases have neither `/etc/hosts` nor `/etc/resolv.conf`, in whose place BuildKit's runtime makes empty files. */
const timeOfEtc = /^\/etc directory /;

/** One for each kind of project. */
export const realWorldCases: readonly BuildCase[] = [
  {
    name: "Go: modules and objects in caches, the program alone in its image",
    bases: ["golang"],
    dockerfile: `FROM golang AS build
WORKDIR /src
ENV GOPROXY=file:///src/proxy GONOSUMDB=* GOFLAGS=-modcacherw
COPY proxy proxy
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod go mod download
COPY . .
ARG VERSION=dev
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \\
    CGO_ENABLED=0 go build -trimpath -ldflags="-s -w -X main.version=$VERSION" -o /out/app ./cmd/app
FROM build AS test
RUN exit 1
FROM scratch
LABEL org.opencontainers.image.source=https://example.com/app org.opencontainers.image.version=1.2.3
COPY --from=build /etc/passwd /etc/passwd
COPY --from=build --chmod=0755 /out/app /app
USER nobody
EXPOSE 8080
ENTRYPOINT ["/app"]
`,
    args: ["--build-arg", "VERSION=1.2.3"],
    files: goProject,
  },
  {
    name: "Node: npm ci by a lockfile, a build, and its result without what built it",
    bases: ["node"],
    dockerfile: `FROM node AS base
WORKDIR /app
ENV NPM_CONFIG_UPDATE_NOTIFIER=false NPM_CONFIG_AUDIT=false NPM_CONFIG_FUND=false
COPY package.json package-lock.json ./
COPY vendor vendor
FROM base AS build
RUN --mount=type=cache,target=/root/.npm npm ci --offline
COPY . .
RUN npm run build
FROM base AS dependencies
RUN --mount=type=cache,target=/root/.npm npm ci --offline --omit=dev
FROM node
ENV NODE_ENV=production
WORKDIR /app
COPY --from=dependencies --chown=node:node /app/node_modules ./node_modules
COPY --from=build --chown=node:node /app/dist ./dist
COPY --chown=node:node package.json .
USER node
EXPOSE 3000
RUN node dist/main.js > /home/node/greeting
CMD ["node", "dist/main.js"]
`,
    files: nodeProject,
  },
  {
    name: "Python: wheels of one stage in the virtual environment of the next",
    except: timeOfEtc,
    bases: ["python"],
    dockerfile: `FROM python AS build
ENV PYTHONDONTWRITEBYTECODE=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PIP_NO_INDEX=1
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/root/.cache/pip \\
    pip wheel --no-build-isolation --no-deps --wheel-dir /wheels ./vendor/greeting .
RUN python3 -m venv --without-pip /venv && \\
    pip --python /venv/bin/python install --no-compile --no-cache-dir --find-links /wheels shop
FROM python
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PATH="/venv/bin:$PATH"
RUN echo 'shop:x:10001:10001::/home/shop:/bin/sh' >> /etc/passwd
COPY --from=build /venv /venv
USER shop
WORKDIR /data
RUN shop > /tmp/said
HEALTHCHECK --interval=30s --timeout=3s --retries=3 CMD ["shop", "--check"]
ENTRYPOINT ["shop"]
CMD ["--serve"]
`,
    files: [
      directory("vendor"),
      directory("vendor/greeting"),
      file("vendor/greeting/setup.py", pythonSetup("greeting", "py_modules=['greeting']")),
      file("vendor/greeting/greeting.py", "def greet(name):\n    return f'hello {name}'\n"),
      file(
        "setup.py",
        pythonSetup(
          "shop",
          "packages=['shop'], install_requires=['greeting'], entry_points={'console_scripts': ['shop=shop:main']}",
        ),
      ),
      directory("shop"),
      file("shop/__init__.py", "from greeting import greet\n\ndef main():\n    print(greet('shop'))\n"),
      file(".dockerignore", "**/__pycache__\n*.egg-info\n.git\n"),
    ],
  },
  {
    name: "a site built in one stage and served by httpd in the next",
    dockerfile: `ARG SITE_URL=https://example.com
FROM busybox AS build
ARG SITE_URL
WORKDIR /site
COPY content content
COPY --chmod=755 build.sh .
RUN ./build.sh "$SITE_URL" && find public -type f -exec gzip -k9n {} \\; && touch -d '2024-01-01 00:00:00' public/*
FROM busybox
COPY --from=build /site/public /var/www
COPY <<'EOF' /etc/httpd.conf
I:index.html
.svg:image/svg+xml
E404:/var/www/404.html
EOF
EXPOSE 80
STOPSIGNAL SIGINT
USER nobody:nogroup
CMD ["httpd", "-f", "-v", "-p", "80", "-h", "/var/www", "-c", "/etc/httpd.conf"]
`,
    args: ["--build-arg", "SITE_URL=https://site.example"],
    files: [
      directory("content"),
      file("content/index.md", "# Home\nWelcome.\n"),
      file("content/404.md", "# Not here\n"),
      directory("content/blog"),
      file("content/blog/first.md", "# First\n"),
      file(
        "build.sh",
        `#!/bin/sh
set -e
cd content
find . -name '*.md' | sort | while read -r page; do
  target=../public/\${page%.md}.html
  mkdir -p "$(dirname "$target")"
  sed -e 's,^# \\(.*\\),<h1>\\1</h1>,' "$page" > "$target"
  echo "<url><loc>$1/\${page#./}</loc></url>" >> ../public/sitemap.xml
done
`,
      ),
      file(".dockerignore", "public\nDockerfile\n"),
    ],
  },
  {
    name: "a base that says by its triggers how a site is built",
    bases: ["site"],
    dockerfile: "FROM site\nLABEL maintainer=someone\n",
    args: ["--build-arg", "TITLE=Mine"],
    files: [file("index.txt", "<title>@TITLE@</title>\n"), file("about.txt", "About @TITLE@\n")],
  },
  {
    name: "a server's image, written as the official ones are",
    except: timeOfEtc,
    dockerfile: `FROM busybox
RUN set -eux; \\
    echo 'store:x:999:999:store:/var/lib/store:/bin/false' >> /etc/passwd; \\
    echo 'store:x:999:' >> /etc/group; \\
    mkdir -p /var/lib/store /docker-entrypoint-initdb.d; \\
    chown -R store:store /var/lib/store; \\
    chmod 1777 /var/lib/store
ENV STORE_VERSION=7.2.1
ENV STORE_DOWNLOAD_SHA256=8fd1df5e1bc1ae1f3f8d4a5ef6ee9d7dbb3bc4b5b1df4a3a1c2f2e4d6f0a1b2c
ARG BUILD_DATE
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Store" \\
      org.opencontainers.image.created=$BUILD_DATE \\
      org.opencontainers.image.revision=$REVISION \\
      org.opencontainers.image.licenses="Apache-2.0 OR MIT"
# A step's rubbish goes with the step.
RUN set -eux; \\
    savedUmask="$(umask)"; umask 077; \\
    mkdir -p /usr/src/store; echo source > /usr/src/store/store.c; \\
    mkdir -p /usr/local/bin; printf '#!/bin/sh\\nexec sleep 1000000\\n' > /usr/local/bin/store-server; \\
    chmod +x /usr/local/bin/store-server; \\
    ln -s store-server /usr/local/bin/store-check; \\
    umask "$savedUmask"; \\
    rm -r /usr/src/store; \\
    ls -l /usr/local/bin > /dev/null
ENV PATH=$PATH:/usr/local/store/bin STORE_DATA=/var/lib/store
VOLUME /var/lib/store
WORKDIR /var/lib/store
COPY docker-entrypoint.sh /usr/local/bin/
RUN ln -s usr/local/bin/docker-entrypoint.sh / # backwards compat
ENTRYPOINT ["docker-entrypoint.sh"]
STOPSIGNAL SIGINT
EXPOSE 6379 16379/tcp
HEALTHCHECK --interval=30s --timeout=5s --start-period=1m --retries=5 \\
  CMD store-check --host 127.0.0.1 || exit 1
CMD ["store-server"]
`,
    args: [
      ...["--build-arg", "BUILD_DATE=2024-05-06T07:08:09Z", "--build-arg", "REVISION=abc123"],
      ...["--label", "org.opencontainers.image.vendor=ours"],
    ],
    files: [file("docker-entrypoint.sh", '#!/bin/sh\nset -e\nexec "$@"\n', { mode: 0o755 })],
  },
];

function pythonSetup(name: string, rest: string): string {
  return `from setuptools import setup\n\nsetup(name='${name}', version='1.0', ${rest})\n`;
}

/** A program with a module, which is in the context as a proxy has it. */
async function goProject(): Promise<TarEntry[]> {
  const module = { path: "github.com/pkg/errors", version: "v0.9.1" };
  const { code, text, errorText } = await runCommand(
    "go",
    ["mod", "download", "-json", `${module.path}@${module.version}`],
    // The builder is made of it: nothing is asked for that is not here.
    { cwd: tmpdir(), env: { ...process.env, GONOSUMDB: "*" } },
  );
  if (code !== 0) {
    throw new Error(`${module.path}: ${text}${errorText}`);
  }
  const { Info, GoMod, Zip, Sum, GoModSum } = JSON.parse(text) as Record<string, string>;
  const proxied = async (extension: string, path = ""): Promise<TarEntry> =>
    file(`proxy/${module.path}/@v/${module.version}.${extension}`, "", { content: await readFile(path) });
  return [
    directory("cmd"),
    directory("cmd/app"),
    file(
      "cmd/app/main.go",
      `package main

import (
	"fmt"
	"os"

	"${module.path}"
)

var version = "none"

func main() {
	if len(os.Args) > 1 {
		fmt.Println(errors.New(os.Args[1]))
	}
	fmt.Println(version)
}
`,
    ),
    file("go.mod", `module example.com/app\n\ngo 1.21\n\nrequire ${module.path} ${module.version}\n`),
    file(
      "go.sum",
      `${module.path} ${module.version} ${Sum}\n${module.path} ${module.version}/go.mod ${GoModSum}\n`,
    ),
    await proxied("info", Info),
    await proxied("mod", GoMod),
    await proxied("zip", Zip),
    file(".dockerignore", ".git\n**/*_test.go\nDockerfile\n"),
  ];
}

/** A program with a package that it needs and one that builds it, both in the context. */
async function nodeProject(): Promise<TarEntry[]> {
  const packages = {
    greeting: await npmPackage("greeting", {
      "index.js": "module.exports = (name) => ['hello', name].join(' ');\n",
    }),
    bundle: await npmPackage(
      "bundle",
      {
        "cli.js": `#!/usr/bin/env node
const { cpSync, mkdirSync } = require("node:fs");
mkdirSync("dist");
cpSync("src/main.js", "dist/main.js");
`,
      },
      { bin: { bundle: "cli.js" } },
    ),
  };
  const manifest = {
    name: "shop",
    version: "1.0.0",
    scripts: { build: "bundle" },
    dependencies: { greeting: "file:vendor/greeting-1.0.0.tgz" },
    devDependencies: { bundle: "file:vendor/bundle-1.0.0.tgz" },
  };
  const { scripts: _, ...root } = manifest;
  const locked = (name: keyof typeof packages, rest: object): object => ({
    version: "1.0.0",
    resolved: `file:vendor/${name}-1.0.0.tgz`,
    integrity: `sha512-${createHash("sha512").update(packages[name]).digest("base64")}`,
    ...rest,
  });
  const lock = {
    name: "shop",
    version: "1.0.0",
    lockfileVersion: 3,
    requires: true,
    packages: {
      "": root,
      "node_modules/bundle": locked("bundle", { dev: true, bin: { bundle: "cli.js" } }),
      "node_modules/greeting": locked("greeting", {}),
    },
  };
  return [
    file("package.json", JSON.stringify(manifest, undefined, 2)),
    file("package-lock.json", JSON.stringify(lock, undefined, 2)),
    directory("vendor"),
    file("vendor/greeting-1.0.0.tgz", "", { content: packages.greeting }),
    file("vendor/bundle-1.0.0.tgz", "", { content: packages.bundle }),
    directory("src"),
    file("src/main.js", 'console.log(require("greeting")("shop"));\n'),
    directory("node_modules"),
    file("node_modules/of-the-developer"),
    file(".dockerignore", "node_modules\ndist\n.git\n"),
  ];
}

async function npmPackage(
  name: string,
  files: Readonly<Record<string, string>>,
  rest: object = {},
): Promise<Buffer> {
  const manifest = JSON.stringify({ name, version: "1.0.0", ...rest });
  return gzipSync(
    await tarOf(
      Object.entries({ "package.json": manifest, ...files }).map(([path, content]) =>
        file(`package/${path}`, content, { mode: 0o755 }),
      ),
    ),
  );
}
