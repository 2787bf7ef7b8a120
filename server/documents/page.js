'use strict'

const root = document.documentElement

function keep(name, value) {
  // Storage may be closed to the page: then the choice lasts as long as the page does.
  try { localStorage.setItem(`roost-docs-${name}`, value) } catch {}
}

function kept(name) {
  try { return localStorage.getItem(`roost-docs-${name}`) } catch { return null }
}

function choose(language) {
  root.dataset.language = language
  for (const button of document.querySelectorAll('[data-language]')) {
    if (button !== root) button.setAttribute('aria-pressed', String(button.dataset.language === language))
  }
}

for (const choices of document.querySelectorAll('.choices')) choices.hidden = false

for (const button of document.querySelectorAll('button[data-language]')) {
  button.addEventListener('click', () => {
    choose(button.dataset.language)
    keep('language', button.dataset.language)
  })
}

for (const button of document.querySelectorAll('button[data-theme]')) {
  button.addEventListener('click', () => {
    const isDark = root.dataset.theme ? root.dataset.theme === 'dark' : matchMedia('(prefers-color-scheme: dark)').matches
    root.dataset.theme = isDark ? 'light' : 'dark'
    keep('theme', root.dataset.theme)
  })
}

if (navigator.clipboard) {
  for (const block of document.querySelectorAll('pre')) {
    const button = document.createElement('button')
    button.type = 'button'
    button.textContent = 'Copy'
    button.addEventListener('click', async () => {
      await navigator.clipboard.writeText(block.querySelector('code').textContent)
      button.textContent = 'Copied'
      setTimeout(() => { button.textContent = 'Copy' }, 1500)
    })
    block.append(button)
  }
}

if (kept('theme')) root.dataset.theme = kept('theme') === 'dark' ? 'dark' : 'light'
if (document.querySelector('pre[data-in]')) choose(kept('language') === 'curl' ? 'curl' : 'feathers')
