// openai for Node, made as the README says; its retries are left on.
const OpenAI = require('openai')
const { converse, customer, prompt, proxy } = require('./conversation.cjs')

const client = new OpenAI({ baseURL: `${proxy}/v1`, apiKey: 'sk-test', defaultHeaders: customer })
const ask = { model: 'gpt-4o-mini', max_tokens: 50, messages: [{ role: 'user', content: prompt }] }

async function answer() {
  const { choices, usage } = await client.chat.completions.create(ask)
  return { text: choices[0].message.content, input: usage.prompt_tokens, output: usage.completion_tokens }
}

async function stream() {
  const chunks = await client.chat.completions.create({ ...ask, stream: true, stream_options: { include_usage: true } })
  let [text, usage] = ['', null]
  for await (const chunk of chunks) {
    text += chunk.choices[0]?.delta.content ?? ''
    usage = chunk.usage ?? usage
  }
  return { text, input: usage.prompt_tokens, output: usage.completion_tokens }
}

converse({ answer, stream }, ({ status, code, type, error }) => ({ status, code, type, spend: error?.spend }))
