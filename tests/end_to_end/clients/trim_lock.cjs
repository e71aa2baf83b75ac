// Takes out of a package lock what installing does not need and what names a host: who asks for funding.
// `node trim_lock.cjs package-lock.json`; `make lock` runs it.
const fs = require('node:fs')

const [file] = process.argv.slice(2)
const lock = JSON.parse(fs.readFileSync(file, 'utf8'))
for (const entry of Object.values(lock.packages)) delete entry.funding
fs.writeFileSync(file, `${JSON.stringify(lock, null, 2)}\n`)
