/** The entry point where no shell picks the program: in the container image. */
await import(process.argv[2] === "serve" ? "./serve-process.js" : "./main.js");
